"""What a module puts out: a tensor, or the first of several. y = h + w (f(h, x) - h), h the output, x the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from adaptr.adapter.tensors import Wide
from adaptr.host.outputs import first_of, with_first
from adaptr.precision import at_least
from adaptr.sites.base import OnModule, given, unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

    from adaptr.adapter import Target
    from adaptr.contract import Mount, View
    from adaptr.host.mounting import Mounting
    from adaptr.host.state import State


class Output(OnModule):
    name = "output"
    apart = True
    rows = True

    def state(self, mounting: Mounting, mount: Mount, target: Target) -> State:
        made, parts = super().state(mounting, mount, target), mounting.parts_at(mount.path)
        if parts:
            made.members = nn.ModuleDict(parts)
        return made

    def around(self, below: View, state: State, module: nn.Module) -> View:
        w = state.strength

        def call(*args: object, **kwargs: object) -> object:
            output = below(*args, **kwargs)
            h = first_of(output)
            inner = at_least(h, state.dtype or h.dtype)
            taken = {path: _as(state.taken(path), inner.dtype) for path in state.reads}
            x = next(iter(taken.values())) if taken else _as(given(args, kwargs), inner.dtype)
            y = state.method.output(inner, x, Here(state, inner.dtype, x, taken), state.cfg)
            s = w if state.entrance is None else state.context.weighed(state, w, inner)
            return with_first(output, (y if isinstance(s, float) and s == 1.0 else inner + s * (y - inner)).to(h.dtype))

        return below.then(call=call, rows=unreadable(state))


class Here(Wide):
    """The tensors of a state, and what the adapters that it is made of would add to an output."""

    __slots__ = ("inputs", "state", "x")

    def __init__(self, state: State, dtype: torch.dtype, x: Tensor, inputs: Mapping[str, Tensor]) -> None:
        super().__init__(state, dtype)
        self.state, self.x, self.inputs = state, x, inputs

    def branches(self, h: Tensor) -> dict[str, Tensor]:
        """By name: what each part adds to the output `h`."""
        found = {}
        for name, part in self.state.parts.items():
            x = self.inputs.get(getattr(part.cfg, "reads", ""), self.x)
            found[name] = part.method.branch(h, x, Wide(part, h.dtype), part.cfg)
        return found


def _as(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype) if x.is_floating_point() else x  # ids are no features


SITE = Output()
