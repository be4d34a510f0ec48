"""Plugins of one sort, found by name: a built-in file first, an installed entry point on a miss.

A built-in is `<package>/<name>.py`, `-` written `_`, with a class whose `name` is that name; only the file that is
asked for is imported. Third parties give the class as an entry point of the same name.
"""

from __future__ import annotations

import difflib
import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptr.errors import UsageError


@dataclass(frozen=True)
class Sort:
    """A sort of plugin: how people call it, the package of the built-ins, the entry-point group, where its list is."""

    what: str
    package: str
    group: str
    listing: str

    def names(self) -> list[str]:
        """All names, built-in and installed, without importing any of them."""
        return sorted({*self.files(), *_points(self.group)})

    def files(self) -> Mapping[str, str]:
        """Name to module path of the built-ins."""
        return _files(self.package)

    def load(self, name: str, base: type) -> Any:
        """An object of the class called `name`. Raises `UsageError`: unknown, with near names, or no `base`."""
        found = self._builtin(name) or self._installed(name)
        if found is None:
            raise UsageError(self._unknown(name))
        if not (isinstance(found, type) and issubclass(found, base)):
            raise UsageError(f"{self.what} `{name}`: the plugin gives {found!r}, wanted a subclass of {base.__name__}")
        called = getattr(found, "name", "")
        if called != name:
            raise UsageError(f"{self.what} `{name}`: the plugin calls itself `{called}`; both names must agree")
        return found()

    def _builtin(self, name: str) -> type | None:
        if name not in self.files():
            return None
        module = importlib.import_module(self.files()[name])
        mine = (v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__)
        return next((v for v in mine if getattr(v, "name", None) == name), None)

    def _installed(self, name: str) -> Any:
        point = _points(self.group).get(name)
        if point is None:
            return None
        try:
            return point.load()
        except Exception as error:
            raise UsageError(f"{self.what} `{name}`: its plugin `{point.value}` failed to load: {error!r}") from error

    def _unknown(self, name: str) -> str:
        near = difflib.get_close_matches(name.lower(), self.names(), n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(f'`{n}`' for n in near)}?" if near else f"see {self.listing}"
        return f"there is no {self.what} `{name}`; {hint}"


@functools.cache
def _files(package: str) -> Mapping[str, str]:
    root = Path(importlib.import_module(package).__path__[0])
    files = (f for f in sorted(root.glob("*.py")) if not f.name.startswith("_"))
    return {f.stem.replace("_", "-"): f"{package}.{f.stem}" for f in files}


@functools.cache
def _points(group: str) -> Mapping[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=group)}
