"""The formats by name, and whose a path is: all are asked, and one may answer."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from adaptr.discovery import Sort
from adaptr.errors import AdaptrError, FormatAmbiguous, UsageError, phrases
from adaptr.foreign.format import Format
from adaptr.foreign.seen import CONFIG, Seen

SORT = Sort("format", "adaptr_formats", "adaptr.formats", "`adaptr convert --help`")
#: Tools whose files are known by their marks and can't be read yet.
KNOWN = Sort("tool", "adaptr_formats._known", "", "`adaptr_formats/_known`")
#: What adaptr's own files are called where a format is chosen.
OWN = "adaptr"


def names() -> list[str]:
    """All formats but adaptr's own, built-in and installed, without importing any of them."""
    return SORT.names()


def choices() -> list[str]:
    """The formats that an adapter can be written in. What can't be loaded is none."""
    return [OWN, *(form.name for form in formats() if form.writes)]


def packable() -> list[str]:
    """Those of them that an artifact can be in: a folder, whose files are found again by their names."""
    return [OWN, *(form.name for form in formats() if form.writes and form.folder and form.marks.files)]


@functools.cache
def get(name: str) -> Format:
    """The format of that name, `NAME@VERSION` as that version of its tool reads it. Raises `UsageError`, with near
    names.
    """
    name, at, version = name.partition("@")
    if SORT.has(name):
        made: Format = SORT.load(name, Format)
        return made.of(version) if at else made
    raise phrases.unknown(UsageError, "there is no format", name, [OWN, *names()])


def formats() -> Iterator[Format]:
    """Every format that can be loaded."""
    for name in names():
        try:
            yield get(name)
        except AdaptrError:  # said where nothing else is found, and where it is asked for by name
            continue


def faults() -> list[str]:
    """What is wrong with the installed formats that can't be loaded."""
    return [fault for name in names() if (fault := _fault(name))]


def _fault(name: str) -> str:
    try:
        get(name)
    except AdaptrError as error:
        return str(error)
    return ""


def known() -> list[Format]:
    """Tools whose files are recognised and not read: those that no format has the name of."""
    return [KNOWN.load(name, Format) for name in KNOWN.names() if not SORT.has(name)]


def claimed(path: Path) -> tuple[Format, Path] | None:
    """The format that `path` is in and the file with the tensors, None if it is in none.

    Raises `FormatAmbiguous` where several formats claim it; of adaptr's own file none may.
    """
    seen = Seen(path)
    if not path.exists() or seen.ours:
        return None
    found = [(form, file) for form in formats() if (file := form.locate(seen)) is not None]
    if len(found) > 1:
        said = " and ".join(f"`{form.name}` (by `{file.name}`)" for form, file in found)
        raise FormatAmbiguous(
            f"`{path}` is claimed by several formats, {said}",
            hint="keep adapters in folders of their own, or uninstall the plugin that takes it for its own",
        )
    return found[0] if found else None


def packed(files: Iterable[str]) -> dict[str, list[str]]:
    """Of the files of a folder, by name, those with the weights of an adapter: format to names, the best first."""
    there = set(files)
    whole = (form for form in formats() if not form.marks.config or CONFIG in there)
    found = {form.name: [name for name in form.marks.files if name in there] for form in whole}
    return {name: weights for name, weights in found.items() if weights}


def files() -> frozenset[str]:
    """What weights are called in folders, of any format."""
    return frozenset(name for form in formats() for name in form.marks.files)


def configured(config: Mapping[str, object]) -> Format | None:
    """The format that a configuration is of, by its fields."""
    return next((form for form in formats() if form.marks.configured(config)), None)
