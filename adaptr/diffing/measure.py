"""The figures of a diff at one target: two operators in their common core.

What has factors is exact in the core. The rest is taken at its leading singular values (`SPECTRUM` of them), whose
error is told; norms and cosine are those of the operators themselves either way.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target
from adaptr.algebra import stream
from adaptr.algebra.core import Core
from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator
from adaptr.diffing.report import State, TargetDiff
from adaptr.errors import NonFinite, NotPossible

if TYPE_CHECKING:
    from torch import Tensor

#: How many singular values of a change without factors are looked at.
SPECTRUM = 64
#: Rows sampled for signs: so many runs of so many rows at each target.
RUNS, RUN = 4, 8
#: Changes closer than this, relative to their size, are the same but for rounding; so are singular values of zero.
ROUNDING = 1e-6


def measure(target: Target, a: Operator | None, b: Operator | None, seed: int) -> TargetDiff:
    """All figures that need no base. At least one of `a` and `b` is given. Raises `NonFinite` for NaN and infinity."""
    found = [op for op in (a, b) if op is not None]
    low = [_factors(target, op) for op in found]
    core = Core.of([one for one, _ in low])
    figures: dict[str, Any] = {"approximation": max(error for _, error in low)}
    if a is not None and b is not None:
        figures |= _both(core, a, b, exact=not figures["approximation"])
        figures["conflicts"] = conflicts(a, b, seed, target.path)
    else:
        side = "a" if a is not None else "b"
        size = found[0].norm()
        figures |= {f"norm_{side}": size, "difference": size, **_spectrum(side, _values(core.cores[0]))}
    state = _state(a is not None, b is not None, figures)
    return TargetDiff(target.path, target.kind, target.shape, state, **figures)


def _state(a: bool, b: bool, figures: dict[str, Any]) -> State:
    size = max(figures.get("norm_a", 0.0), figures.get("norm_b", 0.0))
    if figures["difference"] <= ROUNDING * size:
        return "same"
    one, two = a and figures["norm_a"] > 0, b and figures["norm_b"] > 0
    return "changed" if one and two else "only a" if one else "only b"


def _factors(target: Target, op: Operator) -> tuple[LowRank, float]:
    """`op` as factors, and the relative error of that."""
    if not op.finite():
        raise NonFinite(
            f"the change of `{target.path}` holds NaN or infinity", hint="look at it with `adaptr inspect --finite`"
        )
    if len(op.shape) == 1:
        return _column(op), 0.0
    try:
        low = op.low_rank()
    except NotPossible:
        return op.truncate(rank=SPECTRUM)
    return (low, 0.0) if low.rank <= 4 * SPECTRUM else op.truncate(rank=SPECTRUM)


def _column(op: Operator) -> LowRank:
    """The change of a norm's weight, as a matrix of one column."""
    whole = op.dense()
    return LowRank(whole.reshape(-1, 1), whole.new_ones(1, 1))


def _both(core: Core, a: Operator, b: Operator, exact: bool) -> dict[str, Any]:
    import torch

    Ca, Cb = core.cores
    inner = float((Ca * Cb).sum()) if exact else a.inner(b)
    na, nb = (float(Ca.norm()), float(Cb.norm())) if exact else (a.norm(), b.norm())
    apart = float((Ca - Cb).norm()) if exact else math.sqrt(max(na * na + nb * nb - 2 * inner, 0.0))
    (Ua, Sa, Va), (Ub, Sb, Vb) = (torch.linalg.svd(C, full_matrices=False) for C in core.cores)
    Ssum = torch.linalg.svdvals(Ca + Cb)
    ra, rb = _rank(Sa), _rank(Sb)
    read = _angles(Va.mT[..., :ra], Vb.mT[..., :rb])
    written = _angles(Ua[..., :ra], Ub[..., :rb])
    return {
        "norm_a": na,
        "norm_b": nb,
        "inner": inner,
        "difference": apart,
        "cosine": max(-1.0, min(1.0, inner / (na * nb))) if na and nb else None,
        **_spectrum("a", Sa),
        **_spectrum("b", Sb),
        "spectrum_sum": _mean_square(Ssum),
        "effective_sum": _effective(Ssum),
        "angles_in": _degrees(read),
        "angles_out": _degrees(written),
        "overlap_in": _mean(read),
        "overlap_out": _mean(written),
        "on_a": float((Cb @ Va[..., :ra, :].mT).norm()) / na if na else None,
        "on_b": float((Ca @ Vb[..., :rb, :].mT).norm()) / nb if nb else None,
        "cut": _left(Ssum, max(ra, rb)),
    }


def _spectrum(side: str, S: Tensor) -> dict[str, Any]:
    return {
        f"rank_{side}": _rank(S),
        f"effective_{side}": _effective(S),
        f"spectrum_{side}": _mean_square(S)[: _rank(S)],
    }


def _values(C: Tensor) -> Tensor:
    import torch

    found: Tensor = torch.linalg.svdvals(C)
    return found


def _rank(S: Tensor) -> int:
    """How many singular values are more than rounding, in the fullest of a stack."""
    largest = S.max()
    return int(S.gt(ROUNDING * largest).sum(-1).max()) if float(largest) else 0


def _effective(S: Tensor) -> float:
    """exp of the entropy of S / Σ S, the mean over a stack."""
    p = S / S.sum(-1, keepdim=True).clamp(min=1e-300)
    entropy = -(p * p.clamp(min=1e-300).log()).sum(-1)
    return float(entropy.exp().mean()) if float(S.sum()) else 0.0


def _mean_square(S: Tensor) -> tuple[float, ...]:
    found: list[float] = S.reshape(-1, S.shape[-1]).square().mean(0).sqrt().tolist()
    return tuple(found)


def _angles(one: Tensor, two: Tensor) -> Tensor:
    """Cosines of the principal angles between two orthonormal bases, falling; (*e, smaller number)."""
    import torch

    found: Tensor = torch.linalg.svdvals(one.mT @ two)
    return found.clamp(max=1.0)


def _degrees(cosines: Tensor) -> tuple[float, ...]:
    found: list[float] = cosines.flatten().sort(descending=True).values.acos().rad2deg().tolist()
    return tuple(found)


def _mean(cosines: Tensor) -> float | None:
    return float(cosines.square().mean()) if cosines.numel() else None


def _left(S: Tensor, rank: int) -> float | None:
    whole = float(S.square().sum())
    return math.sqrt(float(S[..., rank:].square().sum()) / whole) if whole else None


def conflicts(a: Operator, b: Operator, seed: int, name: str) -> float | None:
    """The share of entries with opposite signs among those where both are not zero, in a sample of rows."""
    import torch

    opposite = counted = 0
    for s in sampled(a.shape[0], seed, name, 1 if a.experts else RUN):
        signs = a.rows(s, torch.float32).sign() * b.rows(s, torch.float32).sign()
        opposite += int((signs < 0).sum())
        counted += int((signs != 0).sum())
    return opposite / counted if counted else None


def sampled(rows: int, seed: int, name: str, run: int = RUN) -> list[slice]:
    """Up to `RUNS` runs of `run` rows, drawn by the seed and the target's name; all rows where they are few."""
    number = -(-rows // run)
    if number <= RUNS:
        return [slice(0, rows)]
    starts = stream.choose(seed, name, number, RUNS).tolist()
    return [slice(i * run, min((i + 1) * run, rows)) for i in starts]
