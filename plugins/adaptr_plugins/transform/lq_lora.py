"""LQ-LoRA: W' = Q(W - s B0 A0) + s B A, B0 A0 where B A begins, refined while it comes nearer to W.  Guo et al. 2023,
arXiv:2311.12023.

By turns factors of what Q left of W, and Q of W without them, at most `times` times; the nearest is taken. With
`fisher` nearest is where the loss cares, after the first batches of training were looked at: entries are weighed by
√(mean of row i · mean of column j) of their mean squared gradients, the last turn of which stands in for all. Here all
layers have the four bits of NF4, quantised doubly as bitsandbytes does; the paper's choice of bits by layer, and its
scales less their least, are left out.

Choose it as LoftQ, where some batches can say which weights matter (`fisher`). It costs as many decompositions as
turns, and saves no memory in training here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr_plugins.delta import _looking
from adaptr_plugins.transform import _residual

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.contract import Run
    from adaptr.host import Session

#: The least weight of a row or a column, as a share of the largest.
LEAST = 1e-6


@dataclass(frozen=True)
class Config(_residual.Config):
    times: int = 20
    double: bool = True
    fisher: bool = False


class LQLoRA(_residual.Residual[Config]):
    name = "lq-lora"

    def first(self, W: Tensor, cfg: Config) -> _residual.Factors:
        return self.nearest(W, W.new_ones(W.shape[0], 1), W.new_ones(1, W.shape[1]), cfg)

    def nearest(self, W: Tensor, d: Tensor, e: Tensor, cfg: Config) -> _residual.Factors:
        """Of W whose rows weigh d (out, 1) and columns e (1, in)."""
        left, best, found = W, float("inf"), None
        for _ in range(cfg.times):
            B, A = self.split(d * left * e, cfg)
            B, A = B / d, A / e
            left = W - self.packed(W, B, A, cfg)
            error = float((d * (left - self.scale(cfg) * B @ A) * e).norm())
            if error >= best:
                break
            best, found = error, (B, A, B, A)
        assert found is not None
        return found

    def prepare(self, session: Session, data: Iterable[Run]) -> None:
        if not self.config(session.adapter.config).fisher:
            return
        for path, F in _looking.gradients(session, data, squared=True).items():
            cfg = self.config(session.adapter.targets[path].config)
            d, e = (weighed(F.mean(axis, keepdim=True)) for axis in (1, 0))
            made = self.nearest(session.base(path).weight.float(), d, e, cfg)
            for name, factor in zip(("B", "A", "B0", "A0"), made, strict=True):
                session.put(path, name, factor)


def weighed(mean: Tensor) -> Tensor:
    """√ of means, none of which is nothing."""
    found: Tensor = mean.sqrt()
    return found.clamp_min(max(float(found.max()) * LEAST, 1e-30))
