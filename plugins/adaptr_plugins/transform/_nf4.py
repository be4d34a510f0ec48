"""Weights as NF4 has them, and methods over such a base: W' = Q(W - s B0 A0) + s B A.

Q is the way to NF4 and back, as bitsandbytes has it: blocks of 64 of the flat weight, each with its largest absolute
value, and of these, doubly, eight bits in blocks of 256 around their mean (the nearest ones: the library takes the one
beside it for some scales in the middle between two). A block that lies on the grid already stays
as it is, so that a base that was loaded, or stored, in NF4 is what it is. What is stored is small, and right on the
base as it was, whose Q is computed again: a live base of floats has a second copy of its targets' weights for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar

from adaptr import LowRank, Param, Target, Transform, View
from adaptr.contract import Live
from adaptr.precision import wide
from adaptr_plugins.delta import _factors

if TYPE_CHECKING:
    from torch import Tensor

BLOCK, NESTED = 64, 256
#: How far from its level what lies on the grid may be, as a share of its block's largest value: bf16's rounding.
ROUNDED = 2.0**-8
#: What a view says of a base in NF4.
NAME = "nf4"


@dataclass(frozen=True)
class Config(_factors.Scaled):
    """`double`: whether the blocks' largest values are quantised too."""

    double: bool = False


C = TypeVar("C", bound=Config)


class OverNF4(Transform[C]):
    """What is over a base in NF4. A method whose Q is of the weight itself has no A0 and B0."""

    params: ClassVar = {"A": Param("r in", init="kaiming"), "B": Param("rows r")}
    kinds = frozenset({"linear", "linear_t"})
    targets = ("all-linear",)
    identity = False
    rate = 2e-4

    def axes(self, target: Target, cfg: C) -> dict[str, int]:
        """Not `out`: what NF4 makes of some rows alone is not what it makes of all."""
        return {"rows": target.shape[0]}

    def scale(self, cfg: C) -> float:
        return _factors.scale(cfg)

    def below(self, W: Tensor, p: Live, cfg: C) -> Tensor:
        """Q of a weight (out, in), fp32."""
        W = wide(W)
        return nf4(W - self.scale(cfg) * (wide(p["B0"]) @ wide(p["A0"])) if "A0" in p else W, cfg.double)

    def weight(self, W: Tensor, p: Live, cfg: C) -> Tensor:
        return LowRank(p["B"], p["A"], self.scale(cfg)).add_rows(self.below(W, p, cfg), slice(None))

    def forward(self, base: View, x: Tensor, p: Live, cfg: C) -> Tensor:
        from torch.nn.functional import dropout

        op, below = LowRank(p["B"], p["A"], self.scale(cfg)), base
        if base.grid != NAME or "A0" in p:
            Q = self.kept(base, p, cfg)
            assert base.op is not None
            below = base.then(call=lambda x, op=base.op: op(x, Q, base.bias))
        return op.forward(below, x, dropout(x, cfg.dropout) if cfg.dropout and p.training else None)

    def kept(self, base: View, p: Live, cfg: C) -> Tensor:
        frozen = [p[name] for name in ("A0", "B0") if name in p]

        def make() -> Tensor:
            W = base.weight.detach()
            return self.below(W, p, cfg).to(W.dtype)

        return p.derived("Q", (*base.sources(), *frozen), make)


def nf4(W: Tensor, double: bool = False) -> Tensor:
    """W in NF4 and back, of its shape, fp32."""
    import torch
    from torch.nn.functional import pad

    from adaptr.adapter.packed import NF4

    flat = W.reshape(-1).float()
    blocks = pad(flat, (0, -flat.numel() % BLOCK)).view(-1, BLOCK)
    levels = torch.tensor(NF4, device=W.device)
    absmax = blocks.abs().amax(1, keepdim=True)
    x = blocks / absmax.where(absmax != 0, 1.0)
    near = levels[torch.bucketize(x, (levels[1:] + levels[:-1]) / 2)]
    there = ((x - near).abs() <= ROUNDED).all(1, keepdim=True)
    scales = doubled(absmax[:, 0])[:, None] if double else absmax
    return blocks.where(there, near * scales).view(-1)[: flat.numel()].view(W.shape)


def doubled(absmax: Tensor) -> Tensor:
    """Largest values of blocks (n) in eight bits and back."""
    import torch
    from torch.nn.functional import pad

    n, mean = absmax.numel(), absmax.mean()
    blocks = pad(absmax - mean, (0, -absmax.numel() % NESTED)).view(-1, NESTED)
    largest = blocks.abs().amax(1, keepdim=True)
    levels = dynamic().to(absmax.device)
    codes = torch.bucketize(blocks / largest.where(largest != 0, 1.0), (levels[1:] + levels[:-1]) / 2)
    found: Tensor = (levels[codes] * largest).view(-1)[:n] + mean
    return found


def dynamic() -> Tensor:
    """bitsandbytes' map of eight bits with a sign (256): seven decades, each cut twice as fine as the one below it."""
    import torch

    bounds = [torch.linspace(0.1, 1, 2**i + 1, dtype=torch.float32) for i in range(7)]
    means = [10.0 ** (i - 6) * ((one[:-1] + one[1:]) / 2) for i, one in enumerate(bounds)]
    return torch.cat([torch.tensor([0.0, 1.0]), *means, *(-one for one in means)]).sort().values
