"""Over a base in NF4 from which something was taken first, so that what is lost by NF4 is in the factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from adaptr import Param, Target, View
from adaptr.errors import BadConfig
from adaptr_plugins.delta._begun import halved, leading
from adaptr_plugins.transform import _nf4

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config(_nf4.Config):
    """alpha is r, so that s is 1, unless it is said. `times`: how often; `rounds`: of subspace iteration for each
    decomposition, 0 for exact ones.
    """

    alpha: float = 8.0
    times: int = 5
    rounds: int = 0


C = TypeVar("C", bound=Config)
#: B, A, B0, A0.
Factors = tuple["Tensor", "Tensor", "Tensor", "Tensor"]


class Residual(_nf4.OverNF4[C]):
    """What is to be supplied is `first`."""

    params: ClassVar = {
        "A": Param("r in", init="custom"),
        "B": Param("rows r", init="custom"),
        "A0": Param("r in", init="custom", trains=False),
        "B0": Param("rows r", init="custom", trains=False),
    }
    small: ClassVar = {"r": 2, "times": 2}
    most: ClassVar = {"times": 100}

    def first(self, W: Tensor, cfg: C) -> Factors:
        """The factors, and those that are taken out of W (out, in), fp32, before it goes to NF4."""
        raise NotImplementedError

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        return {"alpha": float(values.get("r", Config.r)), **values}

    def axes(self, target: Target, cfg: C) -> dict[str, int]:
        if cfg.r > min(target.shape) or cfg.alpha <= 0 or cfg.times < 1:
            raise BadConfig(
                f"`{self.name}` at `{target.path}`: `r`, `alpha` and `times`",
                verb="are",
                got=f"{cfg.r}, {cfg.alpha} and {cfg.times}",
                want=f"a rank of at most {min(target.shape)}, the weight's, a positive `alpha`, and once at least",
            )
        return super().axes(target, cfg)

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        import torch

        W = base.weight
        if W.is_meta:
            return {name: torch.empty(shape, device="meta") for name, shape in self.shapes(target).items()}
        found = self.first(W.detach().float(), self.config(target.config))
        return {name: factor.contiguous().clone() for name, factor in zip(("B", "A", "B0", "A0"), found, strict=True)}

    def split(self, W: Tensor, cfg: C) -> tuple[Tensor, Tensor]:
        """B and A of W's largest singular triplets, s B A being these."""
        return halved(*leading(W, cfg.r, cfg.rounds), self.scale(cfg))

    def packed(self, W: Tensor, B: Tensor, A: Tensor, cfg: C) -> Tensor:
        """Q(W - s B A)."""
        return _nf4.nf4(W - self.scale(cfg) * B @ A, cfg.double)
