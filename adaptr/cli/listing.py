"""What there is to be typed: each command's summary and section, read as text from its file; none is imported.

A command is a file with three names: `SUMMARY` and `SECTION`, each a text on a line of its own, and `command`. Built-in
ones are in `adaptr/cli/commands`; others are modules given by the entry-point group `adaptr.commands`.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass

import click

from adaptr.discovery import Sort, installed
from adaptr.errors import UsageError, shown

SORT = Sort("command", "adaptr.cli.commands", "adaptr.commands", "`adaptr --help`")
#: The sections of the help, in the order of the work. Those of installed commands that are none of these come behind.
SECTIONS = ("Look", "Change", "Merge", "Run", "Share", "Store")
MORE, UNUSABLE = "More", "Installed, and can't be used"
_SAID = re.compile(r"""^(SUMMARY|SECTION) = (["'].*["'])[ \t]*$""", re.MULTILINE)
_WORD = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class Listed:
    """A command as the help shows it."""

    name: str
    summary: str
    section: str


def names() -> list[str]:
    """The commands that may be called."""
    return sorted({*SORT.files(), *(point.name for point in SORT.points().values() if not _fault(point))})


def sections() -> dict[str, list[Listed]]:
    """Title to commands, by the alphabet. What can't be used is listed last, with the reason."""
    found = sorted([*_builtin(), *_installed()], key=lambda one: one.name)
    others = dict.fromkeys(one.section for one in found if one.section != UNUSABLE)
    titles = dict.fromkeys((*SECTIONS, *others, UNUSABLE))
    made = {title: [one for one in found if one.section == title] for title in titles}
    return {title: commands for title, commands in made.items() if commands}


def load(name: str) -> click.Command:
    """The command of that name, imported. Raises `UsageError` where its plugin is none."""
    found = SORT.module(name) if name in SORT.files() else SORT.found(name)
    command = getattr(found, "command", found)
    if not isinstance(command, click.Command):
        raise UsageError(
            f"command `{name}`: the plugin", verb="gives", got=shown(found), want="a module with a click `command`"
        )
    return command


def said(text: str) -> dict[str, str]:
    """What the source of a command says of it: `SUMMARY` and `SECTION`, as far as they are there."""
    return {name: ast.literal_eval(value) for name, value in _SAID.findall(text)}


@functools.cache
def _builtin() -> tuple[Listed, ...]:
    texts = {name: said(file.read_text(encoding="utf-8")) for name, file in SORT.sources().items()}
    return tuple(Listed(name, one["SUMMARY"], one["SECTION"]) for name, one in texts.items())


def _installed() -> Iterator[Listed]:
    for point in SORT.points().values():
        fault = _fault(point)
        if fault:
            yield Listed(shown(point.name, 40), f"`{shown(point.value)}` of {', '.join(point.by)}: {fault}", UNUSABLE)
        else:
            told = said(installed.source(point.module) or "")
            yield Listed(point.name, shown(told["SUMMARY"], 200), shown(told.get("SECTION", MORE)))


def _fault(point: installed.Point) -> str:
    """Why an installed command can't be used, as far as that shows without importing it."""
    if point.name in SORT.files():
        return "adaptr has a command of that name"
    if _WORD.fullmatch(point.name) is None:
        return "this is no name for a command"
    if len(point.by) > 1:
        return "several distributions give it"
    text = installed.source(point.module)
    if text is None:
        return "its module can't be found"
    try:
        ast.parse(text)
        return "" if "SUMMARY" in said(text) else "it has no line `SUMMARY = ...`"
    except (SyntaxError, ValueError) as error:
        return f"its source is no Python: {error}"
