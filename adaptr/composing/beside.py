"""What stands beside the deltas of several parents: biases and whole replaced parameters. No parent wins silently."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from adaptr.errors import ShapeError, UsageError
from adaptr.precision import widest

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.strategies.base import Strategy

Choice = Literal["refuse", "first", "average", "drop"]
CHOICES: tuple[Choice, ...] = ("refuse", "first", "average", "drop")

#: From an input's number and a path to its weight there.
WeightAt = Callable[[int, str], float]
#: From the number of an input that counts to what it has.
Parts = Mapping[int, Mapping[str, "Tensor"]]


def biases(parts: Parts, weight: WeightAt, strategy: Strategy, cfg: object, choice: Choice) -> dict[str, Tensor]:
    """What is added to the bias at each target.

    Where the strategy is the weighted sum, biases are summed as well; of the bias of one parent alone a strategy takes
    what it would of a delta, with `cfg`. Else `choice` says. Raises `UsageError` if it is to refuse.
    """
    found: dict[str, Tensor] = {}
    for path, owners in _owners(parts).items():
        mine = {n: parts[n][path] for n in owners}
        if strategy.linear:
            found[path] = _total(path, mine, {n: weight(n, path) for n in mine})
        elif len(mine) > 1 and choice == "refuse":
            raise _several("the bias", path, len(mine))
        elif len(mine) == 1 or choice == "first":
            others = sum(weight(n, path) for n in parts if n not in mine)
            found[path] = mine[owners[0]] * strategy.alone(weight(owners[0], path), others, cfg)
        elif choice == "average":
            found[path] = _average(path, mine, weight)
    return found


def replaced(parts: Parts, weight: WeightAt, choice: Choice, targets: Mapping[str, object]) -> dict[str, Tensor]:
    """The whole new parameters. Those that one parent has, or all have alike, are kept as they are.

    Raises `UsageError` if `choice` is to refuse, for several that differ and for one at another weight than 1, which
    only the base could tell; and for one that another parent's delta changes as well. What stands under a delta of its
    own parent is no change, and has no weight.
    """
    import torch

    found: dict[str, Tensor] = {}
    if choice == "drop":
        return found
    for path, owners in _owners(parts).items():
        mine = {n: parts[n][path] for n in owners}
        first = mine[owners[0]]
        ground = path in targets or path.rpartition(".")[0] in targets
        if ground and len(owners) < len(parts):
            raise UsageError(
                f"`{path}` is replaced as a whole by one input and changed by a delta of another",
                hint="leave it out with `--replaced drop`",
            )
        if choice == "refuse" and len(owners) == 1 and not ground and (strength := weight(owners[0], path)) != 1.0:
            raise UsageError(
                f"`{path}` is replaced as a whole by one input, whose weight is {strength:g}",
                hint="keep it whole with `--replaced first`, or leave it out with `--replaced drop`",
            )
        if all(torch.equal(first, other) for other in mine.values()) or choice == "first":
            found[path] = first
        elif choice == "refuse":
            raise _several("the parameter", path, len(mine))
        else:
            found[path] = _average(path, mine, weight)
    return found


def _owners(parts: Parts) -> dict[str, list[int]]:
    """Path to the numbers of the inputs that have it."""
    found: dict[str, list[int]] = {}
    for number, part in parts.items():
        for path in part:
            found.setdefault(path, []).append(number)
    return found


def _several(what: str, path: str, count: int) -> UsageError:
    return UsageError(
        f"{what} `{path}` comes from {count} inputs, and this strategy does not say which is right",
        hint="choose with `--replaced first` (of the first input), `average` (by weight) or `drop`",
    )


def _average(path: str, mine: Mapping[int, Tensor], weight: WeightAt) -> Tensor:
    weights = {n: weight(n, path) for n in mine}
    total = sum(weights.values())
    if total <= 0 or min(weights.values()) < 0:
        raise UsageError(f"`{path}` can't be averaged with the weights {list(weights.values())}", want="none negative")
    found, first = _total(path, mine, {n: w / total for n, w in weights.items()}), next(iter(mine.values()))
    return found if first.is_floating_point() else found.to(first.dtype)


def _total(path: str, mine: Mapping[int, Tensor], weights: Mapping[int, float]) -> Tensor:
    import torch

    if len({t.shape for t in mine.values()}) > 1:
        raise ShapeError(
            f"`{path}`",
            verb="has",
            got=f"the shapes {sorted({tuple(t.shape) for t in mine.values()})} in the inputs",
            want="one shape",
            hint="leave it out with `--replaced drop`, or take `first`",
        )
    dtype = widest(*(t.dtype for t in mine.values()))
    return torch.stack([weights[n] * t.to(dtype) for n, t in mine.items()]).sum(0)
