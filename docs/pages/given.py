"""What an installed distribution gives, by sort: `python docs/generate.py --of DISTRIBUTION`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pages.commands
import pages.methods
import pages.strategies
from adaptr import errors, foreign, packings, plugins, strategies
from adaptr.cli import catalogue, error_pages, listing
from adaptr.data.format import FORMATS
from adaptr.discovery import Sort
from adaptr.foreign.peft import types
from adaptr.registry import remotes
from adaptr.tasks.find import TASKS
from pages.markdown import paragraphs


def by(distribution: str) -> str:
    """The sections of all that a distribution gives, by sort. Raises `UsageError` where it gives nothing."""
    called = re.sub(r"[-_.]+", "-", distribution).lower()
    made = {
        sort.what: [told(name) for name, point in sort.points().items() if called in point.by] for sort, told in _SORTS
    }
    parts = [f"# {distribution}\n", *(text for sections in made.values() for text in sections)]
    if len(parts) == 1:
        raise errors.UsageError(f"there is no distribution `{distribution}` here that gives adaptr anything")
    return "\n".join(parts)


def _format_of(name: str) -> str:
    found = foreign.get(name)
    return f"## {name}\n\nA format of {found.tool}. {paragraphs(inspect.getmodule(type(found)).__doc__)}"  # type: ignore[union-attr]


def _of_file(sort: Sort) -> Callable[[str], str]:
    """What the file of a plugin says of it."""

    def section(name: str) -> str:
        file = inspect.getmodule(sort.found(name))
        return f"## {name}\n\nA {sort.what}. {paragraphs(file and file.__doc__)}"

    return section


def _error_of(name: str) -> str:
    page = error_pages.page(name)
    return f"## {name}\n\n{page.meaning} {page.notes}\n\nExit code {page.exit_code}; is a {', '.join(page.family)}.\n"


_SORTS: tuple[tuple[Sort, Callable[[str], str]], ...] = (
    (plugins.SORT, lambda name: pages.methods.described(catalogue.card(name))),
    (strategies.SORT, pages.strategies.section),
    (foreign.formats.SORT, _format_of),
    (packings.SORT, _of_file(packings.SORT)),
    (listing.SORT, pages.commands.section),
    (remotes.SORT, _of_file(remotes.SORT)),
    (types.SORT, _of_file(types.SORT)),
    (TASKS, _of_file(TASKS)),
    (FORMATS, _of_file(FORMATS)),
    (error_pages.SORT, _error_of),
)
