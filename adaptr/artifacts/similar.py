"""Which prompts are of tasks like another's, for beginning from them: SPoT.  Vu et al. 2021, arXiv:2110.07904.

A prompt early in its training tells of its task. What is near is told by cosines, and what of several is to be begun
from is their mean by these: `adaptr.compose([(one.source, one.weight) for one in found], "average")`, from which
`adaptr train --adapter` goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptr import plugins
from adaptr.artifacts import handling
from adaptr.errors import AdaptrError, TargetMismatch, Unsupported, UsageError
from adaptr.format.finite import require_finite
from adaptr.sources.given import Given, Several, one, without_weights
from adaptr.sources.open import open_adapter

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter


@dataclass(frozen=True)
class Similar:
    """A prompt and how near it is, a cosine; `weight`: its share in a mean of those that were asked for."""

    source: str
    similarity: float
    weight: float


def similar(
    target: Given, sources: Several | None = None, k: int = 3, metric: Literal["mean", "pairs"] = "mean"
) -> list[Similar]:
    """The `k` prompts nearest to `target`, the nearest first.

    `sources`: one or several; None for all prompts in the store that are for the same base and of the same size.
    `metric`: the cosine of the mean tokens, or the mean cosine of all pairs of tokens. What points away has no weight.
    Raises `Unsupported` for what is no prompt, `TargetMismatch` for one of another size or base, and `UsageError`.
    """
    if type(k) is not int or k < 1 or metric not in {"mean", "pairs"}:
        raise UsageError("what is asked for", got=f"k={k} by `{metric}`", want="at least 1, by `mean` or `pairs`")
    wanted = _opened(target)
    P, found = rows(wanted), []
    for label, adapter in _candidates(wanted) if sources is None else _given(sources):
        _require_like(wanted, adapter)
        found.append((label, cosine(P, rows(adapter), metric)))
    best = sorted(found, key=lambda one: -one[1])[:k]
    total = sum(max(near, 0.0) for _, near in best) or 1.0
    return [Similar(label, near, max(near, 0.0) / total) for label, near in best]


def rows(adapter: Adapter) -> Tensor:
    """P (tokens, d) of a prompt, in fp64. Raises `Unsupported` for what is none."""
    method, target = plugins.method(adapter.method), adapter.targets.get("")
    if target is None or method.can.tokens is None:
        label, what = adapter.label, adapter.method
        raise Unsupported(f"`{label}` is `{what}`, and prompts alone are compared", hint="leave it out")
    (P,) = method.materialised(adapter).at("").values()
    return P.narrow(method.can.tokens, 0, target.config["tokens"]).double()


def cosine(P: Tensor, Q: Tensor, metric: str) -> float:
    """Of the mean tokens, or the mean over all pairs of tokens."""
    from torch.nn.functional import normalize

    if metric == "mean":
        return float(normalize(P.mean(0), dim=0) @ normalize(Q.mean(0), dim=0))
    return float((normalize(P, dim=1) @ normalize(Q, dim=1).T).mean())


def _opened(given: Given) -> Adapter:
    found = open_adapter(one(given))
    require_finite(found.adapter, found.given)
    return found.adapter


def _given(sources: Several) -> list[tuple[str, Adapter]]:
    found = without_weights(sources, "how near it is does not go by one")
    return [(each.label, _opened(each.what)) for each in found]


def _candidates(wanted: Adapter) -> list[tuple[str, Adapter]]:
    """The prompts of the store that can be compared with it, itself left out."""
    found = []
    for named in handling.list():
        try:
            adapter = _opened(named.name)
            if not _unlike(wanted, adapter) and not _same(wanted, adapter):
                found.append((named.name, adapter))
        except AdaptrError:  # no prompt, or a broken one
            continue
    return found


def _same(one: Adapter, other: Adapter) -> bool:
    return bool((rows(one) == rows(other)).all())


def _unlike(wanted: Adapter, other: Adapter) -> str:
    """What two prompts differ in, "" where they can be compared."""
    if rows(wanted).shape != rows(other).shape:
        return f"{tuple(rows(other).shape)} where `{wanted.label}` is {tuple(rows(wanted).shape)}"
    mine, its = (one.base.structure or one.base.id for one in (wanted, other))
    return "for another base" if mine and its and mine != its else ""


def _require_like(wanted: Adapter, other: Adapter) -> None:
    unlike = _unlike(wanted, other)
    if unlike:
        raise TargetMismatch(f"`{other.label}` is {unlike}", hint="compare prompts of one length, for one base")
