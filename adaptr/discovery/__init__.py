"""Plugins of one sort, found by name: a built-in file first, an installed entry point on a miss.

A built-in is a file of its sort's package, `<name>.py` with `-` written `_`; only the file that is asked for is
imported. Third parties give theirs as an entry point of the same name. Everything that multiplies is found here:
methods, strategies, remotes, formats, PEFT's types, commands, the pages of errors.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from adaptr.discovery import installed, owner
from adaptr.errors import UsageError, phrases


@dataclass(frozen=True)
class Sort:
    """A sort of plugin: how people call it, the package of the built-ins, the entry-point group, where its list is.

    `unknown`: the error for a name that nobody has. `within`: where in the package its files are.
    """

    what: str
    package: str
    group: str
    listing: str
    unknown: type[UsageError] = UsageError
    within: tuple[str, ...] = ("[!_]*.py", "[!_]*/__init__.py")

    def names(self) -> list[str]:
        """All names, built-in and installed, without importing any of them."""
        return sorted({*self.files(), *self.points()})

    def files(self) -> Mapping[str, str]:
        """Name to module path of the built-ins."""
        return _modules(self.package, self.within)

    def sources(self) -> Mapping[str, Path]:
        """Name to source of the built-ins."""
        return {name: file for name, (_, file) in _files(self.package, self.within).items()}

    def points(self) -> Mapping[str, installed.Point]:
        """Name to entry point of what is installed."""
        return _points(self.group)

    def has(self, name: str) -> bool:
        """Whether there is one of that name. What is installed is only looked at where no built-in has it."""
        return name in self.files() or name in self.points()

    def load(self, name: str, base: type) -> Any:
        """An object of the class called `name`. Raises `unknown`, with near names, or `UsageError` for no `base`."""
        found = self.found(name)
        if not (isinstance(found, type) and issubclass(found, base)):
            raise UsageError(
                f"{self.what} `{name}`: the plugin",
                verb="gives",
                got=repr(found),
                want=f"a subclass of {base.__name__}",
            )
        called = getattr(found, "name", "")
        if called != name:
            raise UsageError(
                f"{self.what} `{name}`: the plugin calls itself `{called}`", want="one name at both places"
            )
        return found()

    def found(self, name: str) -> Any:
        """What a built-in file or an entry point gives under `name`: a class, if it is as it should be."""
        if name in self.files():
            return self._builtin(name)
        if name in self.points():
            return self._installed(name, self.points()[name])
        raise self._unknown(name)

    def module(self, name: str) -> ModuleType:
        """The module of a built-in."""
        return importlib.import_module(self.files()[name])

    def _builtin(self, name: str) -> object:
        return _class(self.files()[name], name)

    def _installed(self, name: str, point: installed.Point) -> object:
        try:
            return point.load()
        except (Exception, SystemExit) as error:
            of = owner.described(self.group, point)
            raise UsageError(
                f"{self.what} `{name}`: its plugin `{point.value}` failed to load: {error!r}",
                hint=f"report it {of.told}, or uninstall {of.release}",
            ) from error

    def _unknown(self, name: str) -> UsageError:
        hint = phrases.meant(str(name).lower(), self.names()) or f"see {self.listing}"
        return self.unknown(f"there is no {self.what} `{name}`", hint=hint)


@functools.cache
def _files(package: str, within: tuple[str, ...]) -> Mapping[str, tuple[str, Path]]:
    root = installed.folder(package)
    found = {}
    for file in sorted(file for pattern in within for file in root.glob(pattern)):
        parts = file.relative_to(root).with_suffix("").parts
        path = parts[:-1] if parts[-1] == "__init__" else parts
        found[path[-1].replace("_", "-")] = (".".join((package, *path)), file)
    return found


@functools.cache
def _modules(package: str, within: tuple[str, ...]) -> Mapping[str, str]:
    return {name: module for name, (module, _) in _files(package, within).items()}


@functools.cache
def _class(module: str, name: str) -> object:
    """The class that a module has under a name, None if it has none."""
    found = importlib.import_module(module)
    mine = (v for v in vars(found).values() if isinstance(v, type) and v.__module__ == module)
    return next((v for v in mine if getattr(v, "name", None) == name), None)


def _points(group: str) -> Mapping[str, installed.Point]:
    return installed.points(group)
