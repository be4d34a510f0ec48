"""Whose answers the outputs of a head are: names of classes, and heads that would be drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptr.checkpoint.skeleton import described
from adaptr.errors import CheckpointError, DataError
from adaptr.tasks.labels import tells

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.data.records import Record
    from adaptr.tasks.base import Task

#: Where a trained adapter says what its outputs are called, in `training`.
LABELS = "labels"


def said(adapter: Adapter) -> tuple[str, ...]:
    """The names of its classes, in the order of the outputs of the head that it brings; () where it says none."""
    found = adapter.training.get(LABELS) if isinstance(adapter.training, dict) else None
    return tuple(map(str, found)) if isinstance(found, list | tuple) else ()


def labels(task: Task, records: Sequence[Record], base: Path, adapters: Sequence[Adapter]) -> tuple[str, ...]:
    """The names of the classes in the order of the outputs: the adapters' own, else the base's, else the data's.

    Raises `DataError` where adapters say different ones, or the data has one that is none of theirs.
    """
    of_data = task.labels(records, base)
    if not of_data:
        return ()
    known = {adapter.label: names for adapter in adapters if (names := said(adapter))}
    if len(set(known.values())) > 1:
        raise DataError(
            "the adapters' heads have different classes, or the same in another order: "
            + "; ".join(f"`{label}`: {', '.join(names)}" for label, names in known.items()),
            hint="measure each in a call of its own",
        )
    own = next(iter(known.values()), ())
    strange = sorted({*task.labels(records)} - {*own}) if own else []
    if strange:
        raise DataError(
            f"the data has the class `{strange[0]}`, which the adapter's head does not tell",
            want=f"one of {', '.join(own)}",
        )
    return own or of_data


def of_base(model: nn.Module, base: Path, names: Sequence[str]) -> bool:
    """Whether what tells these classes is the base's to say: it tells them, or has no head of this kind."""
    headed = described(base).get("architectures") or []
    return not names or type(model).__name__ not in headed or tells(base, names)


def absent(heads: Sequence[str], adapter: Adapter | None) -> list[str]:
    """Those of the fresh modules `heads` that an adapter does not bring."""
    brought = {path.rpartition(".")[0] for path in adapter.replaced} if adapter is not None else set()
    return [head for head in heads if head not in brought]


def require(heads: Sequence[str], adapter: Adapter, base: Path) -> None:
    """Raises `CheckpointError` where neither base nor adapter has a module: its random values would answer noise."""
    missing = absent(heads, adapter)
    if missing:
        raise CheckpointError(
            f"`{base}` has no `{missing[0]}` for these classes and `{adapter.label}` brings none",
            hint="random values would make the answers noise: train a head with the adapter",
        )
