"""The command that does a training again."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adaptr.training.fields import fields
from adaptr.training.recipe import Recipe

#: Fields whose options are called otherwise, or stand without a name.
OPTIONS = {"config": "set", "targets": "targets"}


def command(recipe: Recipe, out: Path | None) -> str:
    """`adaptr train BASE --data FILE ... -o OUT`, with what is not the default."""
    said = ["adaptr", "train", recipe.base]
    for name, field in fields().items():
        value = getattr(recipe, name)
        if name != "base" and (field.required or value != field.default):
            said += _said(name, value)
    return shlex.join([*said, *(["-o", str(out)] if out else [])])


def _said(name: str, value: Any) -> list[str]:
    option = "--" + OPTIONS.get(name, name).replace("_", "-")
    if value is True:
        return [option]
    return [part for one in _each(value) for part in (option, one)]


def _each(value: Any) -> Iterator[str]:
    """One text for each time that the option is given."""
    if isinstance(value, Mapping):
        yield from (f"{key}={one if isinstance(one, str) else json.dumps(one)}" for key, one in value.items())
    elif isinstance(value, list | tuple):
        yield from map(str, value)
    elif value is not None:
        yield f"{value:g}" if isinstance(value, float) else str(value)
