"""The page of each error: what it means, its exit code and its family, from the docstring of its class.

adaptr's own are the classes of `adaptr.errors`; a distribution gives those of its errors by the entry-point group
`adaptr.errors`, name and class. A page that is missing or broken is listed with the reason, and stops no other.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adaptr import errors
from adaptr.discovery import Sort
from adaptr.errors import AdaptrError, UsageError, shown


class Errors(Sort):
    """The errors as a sort of plugin: several of adaptr's own are in one file."""

    def files(self) -> Mapping[str, str]:
        found = (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AdaptrError))
        return {kind.__name__: kind.__module__ for kind in found}

    def _builtin(self, name: str) -> object:
        return getattr(errors, name)


SORT = Errors("error", "adaptr.errors", "adaptr.errors", "`adaptr errors`")


@dataclass(frozen=True)
class Page:
    """What is said of an error. `family`: the errors that catching catches it too, the nearest first; `by`: the
    distribution that it is of, "" for adaptr's own.
    """

    name: str
    exit_code: int
    meaning: str
    notes: str
    family: tuple[str, ...]
    by: str = ""

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Missing:
    """A page that can't be shown, and why."""

    name: str
    by: str
    reason: str


def page(name: str) -> Page:
    """The page of one error. Raises `UsageError`, with near names or for a page that is missing or broken."""
    kind, own = SORT.found(name), name in SORT.files()
    by = "" if own else ", ".join(SORT.points()[name].by)
    if not own and (fault := _fault(name, kind)):
        raise UsageError(f"error `{name}` of `{by}` has no page: {fault}", hint=f"update `{by}`")
    meaning, _, notes = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")
    above = tuple(one.__name__ for one in kind.__mro__[1:] if issubclass(one, AdaptrError))
    return Page(name, kind.exit_code, " ".join(meaning.split()), " ".join(notes.split()), above, by)


def pages() -> tuple[list[Page], list[Missing]]:
    """All pages by exit code and name, and those of installed distributions that are missing or broken."""
    found, missing = [], []
    for name in SORT.names():
        try:
            found.append(page(name))
        except UsageError as error:
            missing.append(Missing(name, ", ".join(SORT.points()[name].by), str(error)))
    hidden = ((name, point) for name, point in SORT.points().items() if name in SORT.files())
    missing += [Missing(name, ", ".join(point.by), "adaptr has an error of that name") for name, point in hidden]
    return sorted(found, key=lambda one: (one.exit_code, one.by, one.name)), missing


def _fault(name: str, kind: object) -> str:
    """Why what an entry point gives is no page of an error."""
    if not (isinstance(kind, type) and issubclass(kind, AdaptrError)):
        return f"the plugin gives {shown(kind)}, wanted a subclass of AdaptrError"
    if kind.__name__ != name:
        return f"its class is called `{shown(kind.__name__)}`; both names must agree"
    above: Any = next(one for one in kind.__mro__ if one.__module__.partition(".")[0] == "adaptr")
    if above is AdaptrError:
        return "it is of no family: derive it from UsageError, InputError, WrongBase, NotPossible or another"
    if kind.exit_code != above.exit_code:
        return f"its exit code is {shown(kind.exit_code)}; that of a {above.__name__} is {above.exit_code}"
    return "" if (vars(kind).get("__doc__") or "").strip() else "it has no docstring, which says what went wrong"
