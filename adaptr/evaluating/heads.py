"""Whose answers the outputs of a head are: names of classes, and heads that would be drawn at random."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptr.checkpoint.skeleton import described
from adaptr.errors import CheckpointError, DataError

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.data.records import Record
    from adaptr.tasks.base import Task

#: Where a trained adapter says what its outputs are called, in `training`.
LABELS = "labels"
#: What transformers calls classes that nobody named.
_GENERIC = re.compile(r"LABEL_\d+")


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


def of_base(base: Path, names: Sequence[str]) -> bool:
    """Whether a base's own head tells these classes, in this order."""
    found = described(base).get("id2label")
    own = [str(found[key]) for key in sorted(found, key=int)] if isinstance(found, dict) else []
    generic = all(_GENERIC.fullmatch(name) for name in own)
    numbered = len(own) in (0, len(names)) and [str(i) for i in range(len(names))] == list(names)
    return own == list(names) or (generic and numbered)  # none are written where there are two without a name


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
