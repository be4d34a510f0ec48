"""LoRA that begins with factors of the weight itself, which the base is relieved of: W' = W + s (B A - B0 A0).

B0 and A0 are where B and A began. The papers take s B0 A0 out of the base; here it is taken out of the change, so that
the same is computed and learnt, and what is stored is right on the base as it was, as a LoRA of rank 2 r. B0 and A0 are
stored, because decompositions are other on other machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from adaptr import LowRank, Param, Target, View
from adaptr.contract import Costs, Live
from adaptr.errors import BadConfig
from adaptr.families.init import unmade
from adaptr_plugins.delta import _factors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn


@dataclass(frozen=True)
class Config(_factors.Config):
    """alpha is r, so that s is 1, unless it is said."""

    alpha: float = 8.0


C = TypeVar("C", bound=Config)


class Begun(_factors.Factors[C]):
    """What is to be supplied is `first`: the factors from the weight. Or they are `put` in `prepare`."""

    params = {
        "A": Param("r in", init="custom"),
        "B": Param("out r", init="custom"),
        "A0": Param("r in", init="custom", trains=False),
        "B0": Param("out r", init="custom", trains=False),
        "b": Param("out", when="bias"),
    }
    kinds = frozenset({"linear", "linear_t"})
    small = {"r": 2}

    def first(self, W: Tensor, cfg: C) -> tuple[Tensor, Tensor]:
        """B0 (out, r) and A0 (r, in) of W (out, in), fp32."""
        raise NotImplementedError

    def delta(self, p: Live, cfg: C) -> LowRank:
        A, B = joined(p)
        return LowRank(B, A, self.scale(cfg))

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        return {"alpha": float(values.get("r", Config.r)), **values}

    def axes(self, target: Target, cfg: C) -> dict[str, int]:
        if cfg.r > min(target.shape) or cfg.alpha <= 0:
            raise BadConfig(
                f"`{self.name}` at `{target.path}`: `r` and `alpha`",
                verb="are",
                got=f"{cfg.r} and {cfg.alpha}",
                want=f"a rank of at most {min(target.shape)}, the weight's, and a positive `alpha`",
            )
        return {}

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        W = base.weight
        if W.is_meta:
            return unmade(self.shapes(target), made)
        B, A = (factor.contiguous() for factor in self.first(W.detach().float(), self.config(target.config)))
        return {"A": A, "B": B, "A0": A.clone(), "B0": B.clone()}

    def costs(self, target: Target, cfg: C) -> Costs | None:
        """The joined factors are kept."""
        both, r = sum(target.shape), 2 * cfg.r
        return None if cfg.dropout else Costs(input=True, token=r, once=r * both, flops=2 * r * both)


def joined(p: Live) -> tuple[Tensor, Tensor]:
    """[A; A0] (2 r, in) and [B | -B0] (out, 2 r)."""
    import torch

    def both(one: str, first: str, axis: int, sign: int) -> Tensor:
        return p.derived(one, (p[one], p[first]), lambda: torch.cat([p[one], sign * p[first]], axis))

    return both("A", "A0", 0, 1), both("B", "B0", 1, -1)


def leading(W: Tensor, r: int, rounds: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """U (out, r), S (r), V^T (r, in): the largest singular triplets of W.

    `rounds`: of subspace iteration from a fixed start, with ten directions more than asked for (Halko et al. 2009,
    arXiv:0909.4061); 0 for the exact decomposition.
    """
    import torch

    if rounds:
        from adaptr.algebra import stream

        start = stream.signs(0, "leading", (W.shape[1], min(r + 10, *W.shape))).to(W)
        Q = torch.linalg.qr(W @ start).Q
        for _ in range(rounds):
            Q = torch.linalg.qr(W @ torch.linalg.qr(W.mT @ Q).Q).Q
        U, S, Vh = torch.linalg.svd(Q.mT @ W, full_matrices=False)
        U = Q @ U
    else:
        U, S, Vh = torch.linalg.svd(W, full_matrices=False)
    return U[:, :r], S[:r], Vh[:r]


def halved(U: Tensor, S: Tensor, Vh: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """B = U √(S / s) and A = √(S / s) V^T, so that s B A = U S V^T."""
    root = (S / scale).sqrt()
    return U * root, root[:, None] * Vh
