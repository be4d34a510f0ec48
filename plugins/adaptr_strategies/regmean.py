"""RegMean: D = (Σ w D_i G_i) (Σ w G_i)⁻¹, the least squares fit to all outputs, G_i = X_iᵀ X_i.  Jin et al. 2022,
arXiv:2212.09849.

`grams`: a safetensors file with `<target>:<number>` (in, in) for each input, counted from 0. An input that does not
change a target has D_i = 0 there, and its outputs count like those of others. `alpha`: the share that entries off the
diagonal keep (the paper's 0.9). Low-rank deltas stay low-rank: only their A changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator
from adaptr.algebra.sum import Sum
from adaptr.errors import BadConfig, InputError, NonFinite, Unsupported, phrases
from adaptr.strategies.base import Operators, Place, Strategy, Weights, factored

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    grams: str = ""
    alpha: float = 0.9


class RegMean(Strategy[Config]):
    name = "regmean"
    scale_free = diluted = True
    files = frozenset({"grams"})

    def check(self, cfg: Config) -> None:
        if not cfg.grams:
            raise BadConfig(
                "strategy `regmean`",
                verb="has",
                got="no `grams`",
                want="a safetensors file with the inputs' Gram matrices",
                hint="give it by `--set grams=FILE`",
            )
        if not 0 <= cfg.alpha <= 1:
            raise BadConfig("strategy `regmean`: `alpha`", got=cfg.alpha, want="from 0 to 1")

    def combine(self, ops: Operators, weights: Weights, cfg: Config, place: Place) -> Operator:
        import torch

        if ops[0].experts or len(ops[0].shape) > 2:
            raise Unsupported(
                f"`regmean` is for linear layers, and `{place.path}` has shape {ops[0].shape}", hint="use `linear`"
            )
        numbers = place.inputs or tuple(range(len(ops)))
        every = [*zip(numbers, weights, strict=True), *place.absent]
        G = [w * _gram(cfg, place.path, n, ops[0].size[1]) for n, w in every]
        total = torch.stack(G).sum(0)
        if int(torch.linalg.matrix_rank(total, hermitian=True)) < len(total):
            raise InputError(
                f"the Gram matrices of `{place.path}` in `{cfg.grams}` add up to a singular one: too few samples",
                hint="take more, or a smaller `alpha`",
            )
        parts = []
        for op, own in zip(ops, G[: len(ops)], strict=True):
            low = factored(op)
            B, A = low.factors(torch.float64)
            A = torch.linalg.solve(total, (A @ own).t()).t()
            parts.append(LowRank(B.to(op.dtype), A.to(op.dtype).contiguous(), low.scale))
        return parts[0] if len(parts) == 1 else Sum(*parts).low_rank()


def _gram(cfg: Config, path: str, number: int, side: int) -> Tensor:
    """G_i with its off-diagonal entries shrunk, fp64. Raises `InputError` where it is missing, `ShapeError`."""
    from adaptr.format.io import open_tensors

    tensors, key = open_tensors(cfg.grams), f"{path}:{number}"
    if key not in tensors:
        raise InputError(
            f"`{cfg.grams}` has no `{key}`: the Gram matrix of input {number} at `{path}`",
            hint="write it for every input and target",
        )
    G: Tensor = tensors[key].double()
    if tuple(G.shape) != (side, side):
        raise phrases.misshapen(f"`{key}` in `{cfg.grams}`", G.shape, (side, side))
    if not bool(G.isfinite().all()):
        raise NonFinite(f"`{key}` in `{cfg.grams}` holds NaN or infinity", hint="make it again, in fp32 or better")
    return cfg.alpha * G + (1 - cfg.alpha) * G.diagonal().diag()
