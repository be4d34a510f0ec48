"""Recipes as YAML files. An error names the line; files are meant from the recipe's own folder.

base: ./smollm2
data: answers.jsonl
method: lora
config: {r: 16}
rate: 1.0e-3
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from adaptr.checkpoint.skeleton import described
from adaptr.data import hub
from adaptr.data.split import share_of
from adaptr.errors import AdaptrError, RecipeError, UsageError, shown
from adaptr.sources.resolve import resolve
from adaptr.training import checking
from adaptr.training.fields import fields, recipe
from adaptr.training.recipe import PLACES, Recipe, places
from adaptr.untrusted.lined import Lined

SUFFIXES = frozenset({".yaml", ".yml"})
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")


def is_one(given: object) -> bool:
    """Whether it names a recipe's file, by the end of its name."""
    return isinstance(given, str | os.PathLike) and Path(given).suffix in SUFFIXES


def read(path: Path, look: bool = False) -> Recipe:
    """The recipe in a file. `look`: whether something must be at its places. Raises `RecipeError`, with the line, for
    whatever is wrong in it.
    """
    file = Lined(path)
    nodes = file.fields(file.root, fields(), "a recipe")
    given = {name: _value(file, name, node) for name, node in nodes.items()}
    try:
        made = recipe(**given)
    except UsageError as error:  # a field that is missing
        raise RecipeError(f"`{path}`, line 1: {error}") from error
    for name, check in checking.checks(made):
        try:
            check()
        except AdaptrError as error:
            node = nodes.get(name, nodes.get("method", file.root))
            raise _placed(file, node, error) from error
    if look:
        _require_there(file, nodes, made)
    return made


def _require_there(file: Lined, nodes: dict[str, Any], made: Recipe) -> None:
    """Raises `RecipeError` for a place where nothing is, as far as that is known without a look elsewhere."""
    for name in sorted(PLACES & nodes.keys()):
        if name == "base" and "://" not in made.base:
            try:
                described(resolve(made.base).path)
            except AdaptrError as error:
                raise _placed(file, nodes[name], error) from error
        for place in places(getattr(made, name)):
            if name != "base" and _absent(name, place):
                raise file.error(
                    nodes[name].start_mark.line,
                    f"`{name}`: there is no `{shown(place)}`",
                    hint="files are meant from the recipe's own folder",
                )


def _absent(name: str, place: str) -> bool:
    """Whether it names a file or a folder for sure, and there is none."""
    if place == "-" or "://" in place or os.path.exists(place):
        return False
    if name in {"adapter", "over", "below"}:  # by another name it is in the store
        return place.startswith(("/", "./", "../"))
    return not hub.names(place) and not (name == "valid" and share_of(place) is not None)


def _value(file: Lined, name: str, node: Any) -> Any:
    field, said = fields()[name], file.value(name, node)
    if float in field.kinds and isinstance(said, str) and _NUMBER.fullmatch(said):
        said = float(said)  # `1e-4`, which YAML takes for a text
    try:
        found = field.checked(said)
    except UsageError as error:
        raise _placed(file, node, error) from error
    return from_folder(name, found, file.path.parent)


def _placed(file: Lined, node: Any, error: AdaptrError) -> RecipeError:
    return file.error(node.start_mark.line, str(error))


def from_folder(name: str, value: Any, folder: Path) -> Any:
    """A place as it is meant from a folder: references, names of the hub and `-` are what they are."""
    if name in PLACES and isinstance(value, tuple):
        return tuple(from_folder(name, one, folder) for one in value)
    if name not in PLACES or not isinstance(value, str) or "://" in value or os.path.isabs(value):
        return value
    beside = folder / value
    explicit = value.startswith(("./", "../"))
    return str(beside) if explicit or beside.exists() else value
