"""Strategies on whole adapters: what is known for those that have no delta."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from adaptr.adapter import Adapter
from adaptr.errors import ShapeError, Unsupported
from adaptr.strategies.base import Strategy, Weights


class Whole(Strategy):
    """The author supplies `whole(adapters, weights, cfg)`."""

    space: ClassVar[str] = "adapters"

    def whole(self, adapters: Sequence[Adapter], weights: Weights, cfg: Any) -> Adapter:
        """The composed adapter; name, base and lineage are the caller's business."""
        raise NotImplementedError


def require_alike(name: str, adapters: Sequence[Adapter]) -> None:
    """Raises `Unsupported` or `ShapeError` unless all are of one method and at the same targets."""
    first = adapters[0]
    for other in adapters[1:]:
        if (other.method, other.version) != (first.method, first.version) or bool(other.parts) != bool(first.parts):
            raise Unsupported(
                f"`{name}` takes adapters of one method: `{first.label}` is `{first.method}`, `{other.label}` is "
                f"`{other.method}`"
            )
        if set(other.targets) != set(first.targets):
            lone = min(set(other.targets) ^ set(first.targets))
            raise ShapeError(f"`{name}` takes adapters at the same targets: only one of them has `{lone}`")
