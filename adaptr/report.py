"""What reports are in a notebook: one line, a small table, a data frame."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeGuard

from adaptr.errors import phrases, shown

if TYPE_CHECKING:
    import pandas

#: Letters of a line, and of a value in a table.
LINE, WIDEST = 160, 120


class Report:
    """What an operation found or did, as values. `as_dict` is what `--json` prints."""

    def __init_subclass__(cls, **more: object) -> None:
        super().__init_subclass__(**more)
        cls.__repr__ = Report.__repr__  # type: ignore[method-assign]  # before a dataclass puts its own there

    def as_dict(self) -> dict[str, object]:
        """Each field by its name: texts, numbers, lists and mappings."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """One line, of what is short."""
        said = ", ".join(f"{name}={value!r}" for name, value in self._short().items())
        return f"<{type(self).__name__} {shown(said, LINE)}>"

    def _repr_html_(self) -> str:
        return table({name: _told(value) for name, value in self.as_dict().items() if value not in (None, "", [], {})})

    def to_pandas(self) -> pandas.DataFrame:
        """Its targets as rows, else its longest list; where it has none, itself as one row.

        Raises `MissingExtra` without pandas.
        """
        try:
            import pandas
        except ImportError:
            raise phrases.extra("a data frame", "pandas", "train") from None
        found = {name: [*value] for name, value in self.as_dict().items() if _is_rows(value)}
        rows = found.get("targets") or max(found.values(), key=len, default=[self._short()])
        return pandas.DataFrame(rows)

    def _short(self) -> dict[str, object]:
        return {name: value for name, value in self.as_dict().items() if isinstance(value, str | int | float)}


def _is_rows(value: object) -> TypeGuard[Sequence[Mapping[str, object]]]:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _told(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple) and any(isinstance(one, Mapping | list | tuple) for one in value):
        return f"{len(value)} of them"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_told(one)}" for name, one in value.items())
    return ", ".join(map(str, value)) if isinstance(value, Iterable) and not isinstance(value, str) else str(value)


def table(facts: Mapping[str, object]) -> str:
    """Names and values as HTML, in which nothing is obeyed."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{html.escape(shown(name))}</th>"
        f"<td style='text-align:left'>{html.escape(shown(str(value), WIDEST))}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table>{rows}</table>"
