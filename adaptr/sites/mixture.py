"""Layers where a gate mixes its experts. y = base(x) + Σ s_i(x) D_i x, s from the gate.

Experts whose delta is a product of thin factors are one pair of them, A (R, in) and Bᵀ (R, out), and their weights meet
them at the rank: ((x Aᵀ) ∘ s E) Bᵀ, with E (n, R) the expert and scale of each rank. Others are computed one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from adaptr.algebra import fused
from adaptr.contract import View
from adaptr.errors import NotPossible, Unsupported
from adaptr.host.beside import applied
from adaptr.host.experts import part_of
from adaptr.host.reached import in_a_stack, reachable
from adaptr.host.signal import Signal, signal_of
from adaptr.host.state import Given, State
from adaptr.precision import autocasts
from adaptr.sites import site
from adaptr.sites.base import Site, Undo

if TYPE_CHECKING:
    from adaptr.adapter import Target
    from adaptr.algebra.lowrank import LowRank
    from adaptr.contract import Mount
    from adaptr.families.base import Method
    from adaptr.host.mounting import Mounting


class Mixture(Site):
    name = "mixture"
    weighs = True
    apart = True
    beside = True

    def check(self, model: nn.Module, method: Method, mount: Mount, target: Target, trains: bool) -> None:
        if part_of(model, target) is not None:
            in_a_stack(method, target, trains=False, weighs=False)
        super().check(model, method, mount, target, trains)
        reachable(model, method, mount, target, trains=False, weighs=False)

    def state(self, mounting: Mounting, mount: Mount, target: Target) -> State:
        own, method = mounting.of(mount, target), cast(Any, mounting.method)
        parts = mounting.parts_at(mount.path)
        experts = {i: parts[name] for i, name in enumerate(mounting.parts) if name in parts}
        number = method.number(method.config(mounting.adapter.config), mounting.given.get(mount.path, mount.path))
        return Mixed(own, number, experts, len(mounting.parts), signal_of(mounting))

    def mount(self, model: nn.Module, key: str, state: State) -> Undo:
        return site("weight").mount(model, key, state)

    def around(self, below: View, state: State, module: nn.Module) -> View:
        return applied(below, state)


class Mixed(State):
    """The state of a gate at one layer: its own tensors there, and the experts. Experts are frozen."""

    A: Tensor
    Bt: Tensor
    E: Tensor
    signal: Signal

    def __init__(self, given: Given, number: int, experts: Mapping[int, State], count: int, signal: Signal) -> None:
        super().__init__(*given)
        self.__dict__.update(signal=signal, number=number, count=count)
        factors = {i: found for i, state in experts.items() if (found := _factors(state)) is not None}
        self.others = nn.ModuleDict({str(i): state for i, state in experts.items() if i not in factors})
        self.shifts = [i for i, state in experts.items() if _shift(state) is not None]
        self.biases = nn.ModuleDict({str(i): experts[i] for i in self.shifts if str(i) not in self.others})
        if factors:
            self.register_buffer("A", torch.cat([found.A for found in factors.values()]))
            self.register_buffer("Bt", torch.cat([found.B.t() for found in factors.values()]))
            E = self.A.new_zeros(count, len(self.A))
            start = 0
            for i, found in factors.items():
                E[i, start : start + len(found.A)] = found.scale
                start += len(found.A)
            self.register_buffer("E", E)
        self.present = sorted(experts)

    def weights(self, x: Tensor) -> Tensor:
        """The weights of the experts, (n) or one for each token (..., n)."""
        s = cast(Tensor, self.method.mix(x, self, self.cfg))
        tokens = x.shape[:-1] if x.is_floating_point() else x.shape
        if s.ndim > 1 and s.shape[:-1] != tokens:
            raise Unsupported(
                f"`{self.method.name}`: `{self.target.path}` has inputs for {tuple(tokens)} tokens, the gate "
                f"weighs {tuple(s.shape[:-1])}: it can't weigh layers that see other tokens than the model does",
                hint="train the experts without that layer",
            )
        log = self.signal.log
        if log is not None:
            log.setdefault(self.target.path, []).append(s.detach())
        return s

    def mixed(self, base: View, x: Tensor, s: Tensor) -> Tensor:
        """The layer's output with the experts at the weights s, (n) or (..., n)."""
        ranks = "A" in self._buffers
        c = (s @ self.E.to(s.dtype)).to(self.A.dtype) if ranks else s
        W = base.plain
        quick = ranks and W is not None and x.dtype is self.A.dtype and W.dtype is x.dtype
        quick = quick and not autocasts(x.device.type)
        if quick and not torch.is_grad_enabled() and not torch.compiler.is_compiling():
            y = fused.beside(x, cast(Tensor, W), base.bias, self.A, self.Bt, c, 1.0)
        else:
            y = base(x)
            if ranks:
                y = y + self._thin(base, x, c).to(y.dtype)
        for i, other in self.others.items():
            state = cast(State, other)
            op = state.method.operator(state.target, state)
            y = y + (op.side(base, x) * s[..., int(i), None]).to(y.dtype)
        for number in self.shifts:
            holder = self.others if str(number) in self.others else self.biases
            shift = cast(Tensor, _shift(cast(State, holder[str(number)])))
            y = y + (s[..., number, None] * shift).to(y.dtype)
        return y

    def _thin(self, base: View, x: Tensor, c: Tensor) -> Tensor:
        if x.is_floating_point():
            return ((x.to(self.A.dtype) @ self.A.t()) * c) @ self.Bt
        assert base.op is not None  # a look-up table
        return (base.op(x, self.A, None) * c) @ self.Bt


def _factors(state: State) -> LowRank | None:
    """The delta of an expert as thin factors, where that is exact and cheaper than the delta itself."""
    try:
        found: LowRank = state.method.operator(state.target, state).low_rank()
    except NotPossible:
        return None
    out, into = found.size
    thin = found.A.ndim == 2 and found.rank * (out + into) <= out * into
    return found if thin else None


def _shift(state: State) -> Tensor | None:
    found: Tensor | None = state.method.shift(state, state.cfg)
    return found


SITE = Mixture()
