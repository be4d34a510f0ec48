"""What composing two adapters would do, from the figures of their diff: first the numbers, then in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import attrgetter

from adaptr.diffing.report import Interference, TargetDiff

#: Names shown as the worst places.
WORST = 3


def interference(targets: Sequence[TargetDiff], a: str, b: str) -> Interference:
    """Figures over all targets and what they mean."""
    shared = [t for t in targets if t.cosine is not None]
    na, nb = _size(targets, "norm_a"), _size(targets, "norm_b")
    inner = sum(t.inner for t in shared)
    figures: dict[str, float | None] = {
        "cosine": inner / (na * nb) if na and nb else None,
        "kept": (na * na + nb * nb + 2 * inner) / (na * na + nb * nb) if na and nb else None,
        "on_a": _together(shared, "on_a", attrgetter("norm_a"), na),
        "on_b": _together(shared, "on_b", attrgetter("norm_b"), nb),
        "conflicts": _mean(shared),
        "cut": _cut(shared),
    }
    worst = sorted(shared, key=lambda t: -max(t.on_a or 0.0, t.on_b or 0.0))[:WORST]
    words = tuple(_words(figures, len(shared), len(targets), a, b, na, nb) if na and nb else _alone(targets, a, b))
    return Interference(shared=len(shared), worst=tuple(t.path for t in worst), words=words, **figures)


def _size(targets: Sequence[TargetDiff], name: str) -> float:
    return math.sqrt(sum(getattr(t, name) ** 2 for t in targets))


def _together(
    shared: Sequence[TargetDiff], name: str, size: Callable[[TargetDiff], float], whole: float
) -> float | None:
    """A figure relative to each target's size, relative to the size of all."""
    parts = sum(((getattr(t, name) or 0.0) * size(t)) ** 2 for t in shared)
    return math.sqrt(parts) / whole if whole and shared else None


def _mean(shared: Sequence[TargetDiff]) -> float | None:
    found = [(t.conflicts, math.prod(t.shape)) for t in shared if t.conflicts is not None]
    return sum(c * n for c, n in found) / sum(n for _, n in found) if found else None


def _cut(shared: Sequence[TargetDiff]) -> float | None:
    """The relative error of all sums, each cut to the larger of the two ranks."""
    sizes = [max(t.norm_a**2 + t.norm_b**2 + 2 * t.inner, 0.0) for t in shared]
    lost = sum(((t.cut or 0.0) ** 2) * size for t, size in zip(shared, sizes, strict=True))
    return math.sqrt(lost / sum(sizes)) if sum(sizes) else None


def _words(f: dict[str, float | None], shared: int, number: int, a: str, b: str, na: float, nb: float) -> list[str]:
    if not shared:
        return [f"`{a}` and `{b}` change different weights: a sum is both of them, and nothing is lost."]
    cosine, kept = f["cosine"] or 0.0, f["kept"] or 0.0
    disturbance = max(f["on_a"] or 0.0, f["on_b"] or 0.0)
    found = [
        f"They meet at {shared} of {number} targets; `{b}` is {nb / na:.3g} times the size of `{a}`, "
        f"{_aligned(cosine)} (cosine {cosine:+.3f}).",
        f"Sum at weights of 1: ‖a + b‖² is {kept:.0%} of ‖a‖² + ‖b‖²{_sized(kept)}.",
        f"On the inputs that `{a}` reads, `{b}` adds {_share(f['on_a'])} of what `{a}` does there; on those that "
        f"`{b}` reads, `{a}` adds {_share(f['on_b'])}: {_verdict(disturbance, cosine)}.",
        f"Cut to the rank of one of them, the sum loses {_share(f['cut'])} of its size (relative Frobenius error); "
        "kept as it is, nothing.",
    ]
    if f["conflicts"] is not None:
        found.append(
            f"Signs are opposite in {f['conflicts']:.0%} of the sampled entries (50% is chance): strategies that "
            "elect signs (ties) drop about that much of the smaller side."
        )
    return found


def _alone(targets: Sequence[TargetDiff], a: str, b: str) -> list[str]:
    """Where only one side changes anything, or none does."""
    side, name = ("a", a) if _size(targets, "norm_a") else ("b", b)
    sizes = [(getattr(t, f"norm_{side}"), getattr(t, f"relative_{side}")) for t in targets]
    if not any(size for size, _ in sizes):
        return ["Neither changes a weight."]
    whole = math.sqrt(sum((size / part) ** 2 for size, part in sizes if part))
    beside = f", by {_share(_size(targets, f'norm_{side}') / whole)} of their size" if whole else ""
    ranks = [getattr(t, f"effective_{side}") for t in targets if getattr(t, f"norm_{side}")]
    return [
        f"`{name}` changes {len(ranks)} weights{beside}, with an effective rank of {min(ranks):.3g} to "
        f"{max(ranks):.3g}; `{b if side == 'a' else a}` changes none, so there is nothing to interfere with."
    ]


def _share(part: float | None) -> str:
    percent = 100 * (part or 0.0)
    return f"{percent:.0f}%" if percent >= 10 else f"{percent:.1f}%"


def _aligned(cosine: float) -> str:
    if cosine > 0.9:
        return "in nearly the same direction"
    if cosine > 0.3:
        return "in much the same direction"
    if cosine < -0.3:
        return "in the opposite direction"
    return "in a nearly unrelated direction" if abs(cosine) < 0.1 else "in a weakly related direction"


def _sized(kept: float) -> str:
    if kept > 1.3:
        return ", so they add up: weights that sum to 1 keep the strength of one"
    return ", so they cancel" if kept < 0.7 else ", so neither cancels the other"


def _verdict(disturbance: float, cosine: float) -> str:
    if cosine > 0.9:
        return "they do the same, so a sum overdoes it and an average loses little"
    if cosine > 0.3:
        return "much of it is the same change, so a sum overdoes that part and an average keeps it"
    if disturbance < 0.1:
        return "a plain sum should keep what both do"
    if disturbance < 0.4:
        return "a plain sum keeps most of both; try it before anything else"
    return "they disturb each other: expect a sum to lose part of both, and measure ties, knots or smaller weights"
