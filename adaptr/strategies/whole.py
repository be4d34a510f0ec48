"""Strategies on whole adapters: what is known for those that have no delta."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from adaptr import plugins
from adaptr.adapter import Adapter, Target
from adaptr.contract.settings import C
from adaptr.errors import ShapeError, Unsupported
from adaptr.strategies.base import Strategy, Weights


class Whole(Strategy[C]):
    """The author supplies `whole(adapters, weights, cfg)`."""

    space: ClassVar[str] = "adapters"

    def whole(self, adapters: Sequence[Adapter], weights: Weights, cfg: C) -> Adapter:
        """The composed adapter; name, base and lineage are the caller's business."""
        raise NotImplementedError


def materialised(adapters: Sequence[Adapter]) -> list[Adapter]:
    """The same, with what they compute of other tensors as tensors of their own."""
    return [plugins.method(adapter.method).materialised(adapter) for adapter in adapters]


#: Fields that only training reads.
TRAINING = frozenset({"init", "dropout", "text", "ids", "frozen"})


def require_alike(name: str, adapters: Sequence[Adapter], free: frozenset[str] = frozenset()) -> None:
    """Raises `Unsupported` or `ShapeError` unless all are of one method, at the same targets, and read in the same way
    there. `free`: fields that may differ.
    """
    first = adapters[0]
    for other in adapters[1:]:
        if (other.method, other.version) != (first.method, first.version) or bool(other.parts) != bool(first.parts):
            raise Unsupported(
                f"`{name}` takes adapters of one method: `{first.label}` is `{first.method}`, `{other.label}` "
                f"is `{other.method}`",
                hint="use `linear`, or convert one of them",
            )
        if set(other.targets) != set(first.targets):
            lone = min(set(other.targets) ^ set(first.targets))
            raise ShapeError(
                f"`{name}` takes adapters at the same targets: only one of them has `{lone}`", hint="use `linear`"
            )
        for (_, mine), (_, its) in zip(_sorted(first), _sorted(other), strict=True):
            one, two = ({k: v for k, v in t.config.items() if k not in TRAINING | free} for t in (mine, its))
            if one != two:
                raise Unsupported(
                    f"`{name}`: `{first.label}` and `{other.label}` are read in different ways at "
                    f"`{mine.path}`: {one} and {two}",
                    hint="use `linear`",
                )


def _sorted(adapter: Adapter) -> list[tuple[str, Target]]:
    return sorted(adapter.all_targets, key=lambda found: (found[0], found[1].path))
