"""Values against a configuration class, a frozen dataclass: what methods and strategies have in common."""

from __future__ import annotations

import dataclasses
import functools
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from adaptr.errors import BadConfig, phrases, shown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from typing_extensions import TypeVar

    C = TypeVar("C", bound=DataclassInstance, default=Any)  # what does not say has any
    D = TypeVar("D", bound=DataclassInstance)
else:
    C = typing.TypeVar("C")


@dataclass(frozen=True)
class Nothing:
    """The configuration of what has none."""


class Configured(Generic[C]):
    """What has a configuration: what stands in the brackets behind its family, or a class of that name inside."""

    Config: ClassVar[type[Any]] = Nothing

    def __init_subclass__(cls, **more: object) -> None:
        super().__init_subclass__(**more)
        said = [one for base in cls.__dict__.get("__orig_bases__", ()) for one in typing.get_args(base)]
        given = next((one for one in said if isinstance(one, type)), None)
        if given is not None and "Config" not in cls.__dict__:
            cls.Config = given


def validated(what: str, config: type[D], values: Mapping[str, Any]) -> D:
    """`values` as a `config`. Raises `BadConfig` for unknown fields and wrong types; `what` is whose they are."""
    types = hints(config)
    for key, value in values.items():
        if key not in types:
            near = phrases.meant(key, types)
            hint = f"{near}{near and ' '}it has {', '.join(types) or 'none'}"
            raise BadConfig(f"{what} has no field `{shown(key)}`", hint=hint)
        if not _fits(value, types[key]):
            want = "true or false" if types[key] is bool else getattr(types[key], "__name__", types[key])
            raise BadConfig(f"{what}: `{key}`", got=shown(repr(value)), want=f"{want}")
    return config(**values)


@functools.cache
def hints(config: type[Any]) -> Mapping[str, Any]:
    """The types of a configuration's fields, by name."""
    found = typing.get_type_hints(config)
    return {f.name: found[f.name] for f in dataclasses.fields(config)}


def _fits(value: object, hint: object) -> bool:
    if typing.get_origin(hint) is typing.Literal:
        return value in typing.get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if typing.get_origin(hint) is list:
        return isinstance(value, list) and all(_fits(one, typing.get_args(hint)[0]) for one in value)
    if typing.get_origin(hint) is dict:
        return isinstance(value, dict)
    return isinstance(value, hint) if isinstance(hint, type) else True
