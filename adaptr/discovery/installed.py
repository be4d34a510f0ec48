"""What installed distributions offer, from their lists of entry points, and where a module's source lies.

`importlib.metadata` says the same and takes fifty milliseconds to import. It is asked where it may know of more: where
distributions are found by other finders than Python's own, or lie in archives. With `ADAPTR_NO_PLUGINS=1` nothing is
installed.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from adaptr.errors import UsageError

_FOLDER = re.compile(r"([^-]+).*\.(dist-info|egg-info)")


@dataclass(frozen=True)
class Point:
    """An entry point: `value` is `module:attribute`, or a module; `by` are the distributions that give it."""

    name: str
    value: str
    by: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        return self.value.partition(":")[0].strip()

    def load(self) -> object:
        """What it stands for. Raises `UsageError` where two distributions give it, and whatever importing it does."""
        if len(self.by) > 1:
            raise UsageError(f"{' and '.join(f'`{one}`' for one in self.by)} both give it", hint="uninstall one")
        attributes = filter(None, self.value.partition(":")[2].split("[")[0].strip().split("."))
        return functools.reduce(getattr, attributes, importlib.import_module(self.module))


def points(group: str) -> Mapping[str, Point]:
    """Name to entry point of a group, among what can be imported now."""
    return _there().get(group, {})


def every() -> Iterator[tuple[str, Point]]:
    """(group, entry point) of all that is installed."""
    return ((group, point) for group, found in _there().items() for point in found.values())


def _there() -> Mapping[str, Mapping[str, Point]]:
    """By group; nothing where adaptr is to run alone."""
    alone = os.environ.get("ADAPTR_NO_PLUGINS", "") not in {"", "0"}
    return {} if alone else _grouped(tuple(sys.path))


@functools.cache
def _grouped(path: tuple[str, ...]) -> Mapping[str, Mapping[str, Point]]:
    found: dict[str, dict[str, Point]] = {}
    for by, group, name, value in _known_elsewhere() if _hidden(path) else _listed(path):
        given = found.setdefault(group, {})
        before = given[name].by if name in given else ()
        given[name] = Point(name, value, (*before, by))
    return found


def _hidden(path: tuple[str, ...]) -> bool:
    """Whether there may be distributions that are no folders of the path."""
    finders = [finder for finder in sys.meta_path if hasattr(finder, "find_distributions")]
    return finders != [PathFinder] or any(os.path.isfile(entry) for entry in path)


def _known_elsewhere() -> Iterator[tuple[str, str, str, str]]:
    from importlib.metadata import distributions

    seen = set()
    for one in distributions():
        if one.name not in seen:
            seen.add(one.name)
            yield from ((one.name, p.group, p.name, p.value) for p in one.entry_points if p.group.startswith("adaptr."))


def _listed(path: tuple[str, ...]) -> Iterator[tuple[str, str, str, str]]:
    """(distribution, group, name, value); of a distribution that is there twice, the first counts, as for imports."""
    seen = set()
    for folder in path:
        for entry in _entries(folder):
            named = _FOLDER.fullmatch(entry)
            by = named[1].replace("_", "-").lower() if named else ""
            if by and by not in seen:
                seen.add(by)
                yield from ((by, *line) for line in _lines(os.path.join(folder, entry, "entry_points.txt")))


def _entries(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder or "."))
    except OSError:
        return []


def _lines(file: str) -> Iterator[tuple[str, str, str]]:
    """(group, name, value) of the groups that are adaptr's."""
    try:
        with open(file, "rb") as stream:
            raw = stream.read()
    except OSError:
        return
    group = ""
    for line in map(str.strip, raw.decode(errors="replace").splitlines() if b"[adaptr." in raw else ()):
        if line.startswith("["):
            group = line.strip("[]").strip()
        elif group.startswith("adaptr.") and "=" in line and line[0] not in "#;":
            name, _, value = line.partition("=")
            yield group, name.strip(), value.strip()


def source(module: str) -> str | None:
    """The source of a module, None where there is none to be read. Neither it nor a package above it is imported."""
    spec = _spec(module)
    try:
        return None if spec is None or not spec.origin else Path(spec.origin).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def folder(package: str) -> Path:
    """Where a package of adaptr's own has its files. It is not imported."""
    spec = _spec(package)
    assert spec is not None, f"`{package}` is a part of adaptr"
    return Path(next(iter(spec.submodule_search_locations or ())))


def _spec(module: str) -> ModuleSpec | None:
    found, path = None, None
    parts = module.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        specs = (finder.find_spec(name, path) for finder in sys.meta_path)
        found = next(filter(None, specs), None)
        if found is None:
            return None
        path = found.submodule_search_locations
    return found
