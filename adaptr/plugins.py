"""From a method's name to the method: built-in file first, installed entry point on a miss.

Built-ins are `adaptr_plugins/<family>/<name>.py`; third parties give the class as an entry point of `adaptr.methods`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import pluggy

from adaptr import hookspecs
from adaptr.contract.capabilities import TOGETHER
from adaptr.contract.validation import place, validated
from adaptr.discovery import Sort
from adaptr.errors import BadConfig, UnknownMethod, UsageError, shown

if TYPE_CHECKING:
    from adaptr.families.base import Method

SORT = Sort("method", "adaptr_plugins", "adaptr.methods", "`adaptr methods`", UnknownMethod, within=("*/[!_]*.py",))
_observers: list[object] = []
_answers: list[object] = []


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
    mine = method(name)
    for other in _answers:
        pm.register(other)
    try:
        pm.register(mine, name)  # last, so that it is asked first
    except pluggy.PluginValidationError as error:
        wrong = next((hook for hook in hookspecs.HOOKS if f"'{hook}'" in str(error)), "")
        raise UsageError(
            f"method `{name}`: a hook has other arguments than `adaptr.hookspecs` says "
            f"({place(type(method(name)), wrong)}): {error}",
            hint="mend the plugin, or uninstall it",
        ) from error
    for observer in _observers:
        pm.register(observer)
    return pm


def hooks(name: str) -> Any:
    """The five hooks of a method, called with keyword arguments: `hooks("lora").merge(adapter=...)`."""
    return manager(name).hook


def answer(hooks: object) -> None:
    """Let `hooks` answer for every method what that does not answer itself."""
    _answers.append(hooks)
    manager.cache_clear()


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
    return cast("Method", validated(SORT.found(name), name))


def spelled(name: str, config: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The method and the configuration that are meant: `lora+prefix` is both, trained together.

    Then `config` has what is said of each, `lora={"r": 8}` or `{"lora.r": 8}`. Raises `UsageError` for anything else.
    """
    methods = name.split("+")
    if len(methods) == 1:
        return name, config
    said: dict[str, dict[str, Any]] = {}
    for key, value in config.items():
        whose, _, field = key.partition(".")
        if whose not in methods or not (field or isinstance(value, Mapping)):
            raise BadConfig(
                f"`{name}`: `{shown(key)}`",
                got="a field of none of them",
                want=f"`{methods[0]}.{shown(key)}`"
                if "." not in key
                else f"some of {', '.join(methods)} before the dot",
            )
        said.setdefault(whose, {}).update({field: value} if field else value)
    return default(TOGETHER), {"methods": methods, "fields": said}


def known(name: str) -> bool:
    """Whether there is a method of that name. Installed plugins are only looked for where no built-in has it."""
    return SORT.has(name)


def names() -> list[str]:
    """All method names, built-in and installed, without importing any of them."""
    return SORT.names()


@functools.cache
def default(use: str) -> str:
    """The built-in method that is taken for `use` where none is named, as it says itself (`default_for`)."""
    said = [name for name, file in SORT.sources().items() if "default_for" in file.read_text(encoding="utf-8")]
    return next(name for name in said if use in method(name).default_for)


def builtin_files() -> Mapping[str, str]:
    """Method name to module path of the built-ins."""
    return SORT.files()
