"""Names of classes: as data has them, in an order that does not depend on the order of the records."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.checkpoint.skeleton import described
from adaptr.data.records import Record, lacking, named
from adaptr.errors import DataError, shown

if TYPE_CHECKING:
    from torch import Tensor, nn

#: More names are no classes, but texts in the wrong column.
MOST = 10_000
#: What transformers calls classes that nobody named.
_GENERIC = re.compile(r"LABEL_\d+")


def name_of(record: Record, column: str = "label") -> str:
    """The name of a record's class. Raises `BadRecord` for what names none."""
    found = record.values.get(column)
    if found is None or found == "":
        raise lacking(record, column)
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if not isinstance(found, str | int):
        raise record.place.bad(f"`{column}`", got=shown(found), want="a text or a whole number that names a class")
    return str(found).strip()


def label(record: Record, names: Sequence[str], column: str = "label") -> str:
    """The same, held against the names that there are."""
    found = name_of(record, column)
    if found not in names:
        raise record.place.bad(f"`{column}`", got=f"`{shown(found)}`", want=f"one of {named(names)}")
    return found


def labels_of(records: Sequence[Record], base: Path | None, ending: str, column: str = "label") -> tuple[str, ...]:
    """All names of records, numbers by their size; those of the base, in its order, where it has a head with them.

    `ending`: of the name of the base's class. Raises `DataError` where there are fewer than two.
    """
    found = dict.fromkeys(name_of(record, column) for record in records)
    return names_of(found, records[0].place.file, base, ending, column)


def names_of(found: Mapping[str, object], file: str, base: Path | None, ending: str, column: str) -> tuple[str, ...]:
    """`found`: names as they stand in `file`."""
    if len(found) > MOST:
        raise DataError(
            f"{file}: `{column}`", verb="has", got=f"{len(found)} different values", want=f"at most {MOST} classes"
        )
    own = own_names(base, ending) if base is not None else ()
    if set(found) <= set(own):
        return own
    if len(found) < 2:
        raise DataError(
            f"{file}: every `{column}` is `{shown(next(iter(found), ''))}`, so there is nothing to tell apart",
            want="two or more",
        )
    return ordered(found)


def fractional(records: Sequence[Record]) -> bool:
    """Whether all labels are numbers, and some are no whole ones: they name no classes."""
    found = [record.values.get("label") for record in records]
    try:
        return any(float(one) % 1 for one in found)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False


def likeliest(model: nn.Module, logits: Tensor) -> list[str]:
    """The names of the likeliest classes, of logits (b, classes)."""
    names: dict[int, str] = model.config.id2label  # type: ignore[union-attr, assignment]
    return [names[i] for i in logits.argmax(-1).tolist()]


def ordered(names: Mapping[str, object] | Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(names, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name)))


def tells(base: Path, names: Sequence[str]) -> bool:
    """Whether a base's own head tells these classes, in this order."""
    found = described(base).get("id2label")
    own = [str(found[key]) for key in sorted(found, key=int)] if isinstance(found, Mapping) else []
    generic = all(_GENERIC.fullmatch(name) for name in own)
    numbered = len(own) in (0, len(names)) and [str(i) for i in range(len(names))] == list(names)
    return own == list(names) or (generic and numbered)  # none are written where there are two without a name


def own_names(base: Path, ending: str) -> tuple[str, ...]:
    """The names that a base's own head has, in their order."""
    config = described(base)
    architectures, names = config.get("architectures"), config.get("id2label")
    if not (isinstance(architectures, list) and architectures and str(architectures[0]).endswith(ending)):
        return ()
    if not isinstance(names, Mapping) or not all(str(key).isdecimal() for key in names):
        return ()
    return tuple(str(names[key]) for key in sorted(names, key=int))
