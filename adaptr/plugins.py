"""From a method's name to the method: built-in file first, installed entry point on a miss.

Only the named method is imported. Built-ins are found by file name (`adaptr_plugins/<family>/<name>.py`); third
parties by the entry-point group `adaptr.methods`, whose name is the method's name and whose value is the method class.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from adaptr import hookspecs
from adaptr.errors import UnknownMethod, UsageError

if TYPE_CHECKING:
    from adaptr.families.base import Method

GROUP = "adaptr.methods"
_observers: list[object] = []


class Manager(pluggy.PluginManager):
    """A plugin manager that takes the five names as hooks without a decorator.

    Otherwise a method that overrides a family's hook and forgets the decorator would drop out silently.
    """

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        marked = super().parse_hookimpl_opts(plugin, name)
        if marked is not None or inspect.ismodule(plugin) or not callable(getattr(plugin, name, None)):
            return marked
        return hookspecs.parse_mark(name)


@functools.cache
def manager(name: str) -> Manager:
    """The plugin manager of one method. Raises `UnknownMethod` for a name that nobody has."""
    pm = Manager(hookspecs.PROJECT)
    pm.add_hookspecs(hookspecs)
    try:
        pm.register(method(name), name)
    except pluggy.PluginValidationError as error:
        raise UsageError(
            f"method `{name}`: a hook has other arguments than `adaptr.hookspecs` says: {error}"
        ) from error
    for observer in _observers:
        pm.register(observer)
    return pm


def hooks(name: str) -> Any:
    """The five hooks of a method, called with keyword arguments: `hooks("lora").merge(adapter=...)`."""
    return manager(name).hook


def observe(observer: object) -> None:
    """Register hook wrappers (timing, policy, audit) for every method, now and later.

    An observer marks its functions with `@hookimpl(wrapper=True)` and sees arguments and results of each call.
    """
    _observers.append(observer)
    manager.cache_clear()


def forget(observer: object) -> None:
    """Undo `observe`."""
    _observers.remove(observer)
    manager.cache_clear()


@functools.cache
def method(name: str) -> Method:
    """The method object of that name. Raises `UnknownMethod`, with near names, or `UsageError` if the plugin is not
    one.
    """
    found = _builtin(name) or _installed(name)
    if found is None:
        raise UnknownMethod(_unknown(name))
    return _validated(found, name)


def known(name: str) -> bool:
    """Whether there is a method of that name. Installed plugins are only looked for where no built-in has it."""
    return name in builtin_files() or name in _entry_points()


def names() -> list[str]:
    """All method names, built-in and installed, without importing any of them."""
    return sorted({*builtin_files(), *_entry_points()})


@functools.cache
def builtin_files() -> Mapping[str, str]:
    """Method name to module path of the built-ins. The file name is the method's name, `-` written `_`."""
    import adaptr_plugins

    root = Path(adaptr_plugins.__path__[0])
    files = (f for f in sorted(root.glob("*/*.py")) if not f.name.startswith("_"))
    return {f.stem.replace("_", "-"): f"adaptr_plugins.{f.parent.name}.{f.stem}" for f in files}


def _builtin(name: str) -> type | None:
    if name not in builtin_files():
        return None
    module = importlib.import_module(builtin_files()[name])
    mine = (v for v in vars(module).values() if isinstance(v, type) and v.__module__ == module.__name__)
    return next((v for v in mine if getattr(v, "name", None) == name), None)


def _installed(name: str) -> type | None:
    point = _entry_points().get(name)
    if point is None:
        return None
    try:
        found: type = point.load()
    except Exception as error:
        raise UsageError(f"method `{name}`: its plugin `{point.value}` failed to load: {error!r}") from error
    return found


@functools.cache
def _entry_points() -> Mapping[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), names(), n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(f'`{n}`' for n in near)}?" if near else "see `adaptr methods`"
    return f"there is no method `{name}`; {hint}"


def _validated(found: type, name: str) -> Method:
    from adaptr.families.base import Method

    if not (isinstance(found, type) and issubclass(found, Method)):
        raise UsageError(f"method `{name}`: the plugin gives {found!r}, wanted a subclass of adaptr.Method")
    if found.name != name:
        raise UsageError(f"method `{name}`: the plugin calls itself `{found.name}`; both names must agree")
    for attribute in ("Config", "params"):
        if not hasattr(found, attribute):
            raise UsageError(f"method `{name}`: the plugin has no `{attribute}`")
    return found()
