"""The fields of a recipe as they are declared: from them come checks, options, the schema and the documentation."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from adaptr import plugins
from adaptr.errors import BadConfig, shown
from adaptr.training.recipe import FRESH, Bounds, Recipe


@dataclass(frozen=True)
class Field:
    """One field. `kinds`: what it may be: `str`, `int`, `float`, `bool`, `Mapping` and `Sequence`; nothing too where it
    is `optional`. `values`: what those of a mapping are, `str` or `float`; anything if None. `choices`: of a text.
    """

    name: str
    help: str
    group: str
    bounds: Bounds
    default: Any
    kinds: tuple[Any, ...]
    choices: tuple[str, ...] = ()
    optional: bool = False
    values: Any = None

    @property
    def required(self) -> bool:
        return self.default is dataclasses.MISSING

    def checked(self, value: Any) -> Any:
        """The value as the recipe has it. Raises `BadConfig` for another type or one out of range."""
        if value is None and self.optional:
            return None
        if not any(_is(value, kind) for kind in self.kinds):
            raise BadConfig(f"`{self.name}`", got=f"`{shown(repr(value))}`", want=self.wanted)
        if self.choices and value not in self.choices:
            raise BadConfig(f"`{self.name}`", got=f"`{shown(value)}`", want=f"one of {', '.join(self.choices)}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            return self._ranged(value)
        if isinstance(value, Mapping):
            return self._mapping(value)
        return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value

    def _ranged(self, value: float) -> float:
        least, most, out = self.bounds
        if not math.isfinite(value):
            raise BadConfig(f"`{self.name}`", got=value, want="a finite number")
        if least is not None and (value < least or (out and value == least)):
            raise BadConfig(f"`{self.name}`", got=f"{value:g}", want=f"{'more than' if out else 'at least'} {least:g}")
        if most is not None and value > most:
            raise BadConfig(f"`{self.name}`", got=f"{value:g}", want=f"at most {most:g}")
        return float(value) if float in (*self.kinds[:1], self.values) else value

    def _mapping(self, value: Mapping[Any, Any]) -> dict[str, Any]:
        for key, one in value.items():
            if not isinstance(key, str) or (self.values is not None and not _is(one, self.values)):
                raise BadConfig(f"`{self.name}`", got=f"`{shown(repr({key: one}))}`", want=self.wanted)
        return {key: self._ranged(one) if self.values is float else one for key, one in value.items()}

    @property
    def wanted(self) -> str:
        """What it may be, in words."""
        of = {str: " of texts", float: " of numbers"}.get(self.values, "")
        return " or ".join(_WORDS[kind] for kind in self.kinds) + of

    def schema(self) -> dict[str, Any]:
        """It as a JSON Schema."""
        kinds: list[Any] = [_TYPES[kind] for kind in self.kinds] + (["null"] if self.optional else [])
        made: dict[str, Any] = {"description": self.help, "type": kinds[0] if len(kinds) == 1 else kinds}
        if self.choices:
            made["enum"] = [*self.choices]
        if Sequence in self.kinds:
            made["items"] = {"type": "string"}
        if self.values is not None:
            made["additionalProperties"] = {"type": _TYPES[self.values]}
        least, most, out = self.bounds
        ranged = made.get("additionalProperties", made)
        if least is not None:
            ranged["exclusiveMinimum" if out else "minimum"] = least
        if most is not None:
            ranged["maximum"] = most
        if not self.required:
            made["default"] = list(self.default) if isinstance(self.default, tuple) else self.default
        return made


_WORDS: Mapping[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Mapping: "a mapping",
    Sequence: "a list of texts",
}
_TYPES: Mapping[Any, str] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    Mapping: "object",
    Sequence: "array",
}


def _is(value: object, kind: Any) -> bool:
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float)
    if kind is Sequence:
        return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    return isinstance(value, kind)


@functools.cache
def fields() -> Mapping[str, Field]:
    """All of them by name, in their order."""
    hints, made, group = typing.get_type_hints(Recipe), {}, ""
    for one in dataclasses.fields(Recipe):
        group = one.metadata["group"] or group
        default = one.default_factory() if one.default_factory is not dataclasses.MISSING else one.default
        kinds, choices, optional, values = _read(hints[one.name])
        made[one.name] = Field(
            one.name, one.metadata["help"], group, one.metadata["bounds"], default, kinds, choices, optional, values
        )
    return made


def _read(hint: Any) -> tuple[tuple[Any, ...], tuple[str, ...], bool, Any]:
    """(kinds, choices, optional, values) of a type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return (str,), args, False, None
    if origin in (types.UnionType, typing.Union):
        parts = [_read(one) for one in args if one is not type(None)]
        return tuple(kind for part in parts for kind in part[0]), (), type(None) in args, None
    if origin is not None and issubclass(origin, Mapping):
        return (Mapping,), (), False, args[1] if args[1] in (str, float) else None
    return (Sequence if origin is not None else hint,), (), False, None


def recipe(**given: Any) -> Recipe:
    """A recipe of checked fields. Raises `BadConfig` for what is wrong with one, and for one that is missing."""
    known = fields()
    for name in given:
        if name not in known:
            raise BadConfig(f"a recipe has no field `{shown(name)}`", hint=near(name))
    for name, field in known.items():
        if field.required and given.get(name) is None:
            raise BadConfig(f"`{name}` is missing", hint=field.help)
    checked = {name: known[name].checked(value) for name, value in given.items()}
    method, config = plugins.spelled(checked.get("method", Recipe.method), checked.get("config", {}))
    checked |= {"method": method, "config": config}
    return Recipe(**{**_usual(method, checked), **checked})


def _usual(method: str, said: Mapping[str, Any]) -> Mapping[str, Any]:
    """What goes with a method, of which there may be none of that name, which is said elsewhere."""
    found = plugins.method(method).recipe if method in plugins.names() else {}
    first = next(iter(found), "")
    if said.get(first, found.get(first)) != found.get(first):
        return {}
    return {k: value for k, value in found.items() if k not in FRESH or said.get("adapter") is None}


def near(name: str) -> str:
    """What an unknown name may have meant."""
    import difflib

    found = difflib.get_close_matches(name, fields(), n=1, cutoff=0.5)
    return f"did you mean `{found[0]}`?" if found else f"it has {', '.join(fields())}"
