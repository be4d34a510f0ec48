"""Recipes as YAML files. Errors name the line; what the command line names a recipe may name, and paths are meant from
the file's own folder.

strategy: ties
config: {density: 0.2}
inputs:
  - adapter: style.safetensors
    weight: 0.7
  - adapter: ./tone
    weight: {"*": 0.3, "*.mlp.*": [0, 1]}
    digest: sha256:...            # refused if the file is another one
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import strategies
from adaptr.adapter import weighting
from adaptr.composing import mergekit, tune
from adaptr.composing.recipe import Input, Recipe, checked, files
from adaptr.errors import UsageError, shown
from adaptr.sources.resolve import Source, resolve
from adaptr.untrusted.lined import Lined

if TYPE_CHECKING:
    from yaml import Node

SUFFIXES = frozenset({".yaml", ".yml"})
FIELDS = tuple(field.name for field in dataclasses.fields(Recipe) if field.name != "notes")
INPUT_FIELDS = ("adapter", "weight", "digest")
#: What each field must be; a float may be written as an integer.
KINDS: Mapping[str, tuple[type, ...]] = {
    "strategy": (str,),
    "config": (dict,),
    "rank": (int,),
    "energy": (float, int),
    "normalize": (bool,),
    "seed": (int,),
    "replaced": (str,),
    "base": (str,),
    "any_base": (bool,),
    "name": (str,),
    "dtype": (str,),
    "tune": (dict,),
    "adapter": (str,),
    "digest": (str,),
}


def named(given: object) -> Source | None:
    """The file where a recipe is given, by the end of its name; None for anything else."""
    if not isinstance(given, str | os.PathLike | Source):
        return None
    return resolve(given) if Path(str(given)).suffix in SUFFIXES else None


def read(path: Path) -> Recipe:
    """The recipe in a file, also of mergekit's. Raises `RecipeError`, with the line, for whatever is wrong in it."""
    return _Reader(path).recipe()


class _Reader:
    """A recipe in a document whose parts know their line."""

    def __init__(self, path: Path) -> None:
        self.path, self.file = path, Lined(path)

    def recipe(self) -> Recipe:
        if mergekit.is_one(self.file):
            made = mergekit.read(self.file)
            self._check(made, dict.fromkeys(("inputs", *FIELDS), self.file.root))
            return made
        found = self.file.fields(self.file.root, FIELDS, "a recipe")
        if "inputs" not in found:
            raise self.file.error(0, "a recipe wants `inputs`", want="a list of adapters with their weights")
        given = {name: self._value(name, node) for name, node in found.items() if name != "inputs"}
        if "base" in given:
            given["base"] = resolve(given["base"], self.path.parent)
        if "tune" in given:
            given["tune"] = self._tune(given["tune"], found["tune"])
        recipe = Recipe(self._inputs(found["inputs"]), **given)
        self._check(recipe, found)
        beside = {field: str(self.path.parent / file) for field, file in files(recipe).items()}
        return dataclasses.replace(recipe, config={**recipe.config, **beside})

    def _tune(self, values: dict[str, Any], node: Any) -> tune.Tune:
        try:
            found = tune.checked(values)
        except UsageError as error:
            raise self.file.error(node.start_mark.line, error.fact, hint=error.hint) from error
        return dataclasses.replace(found, data=str(self.path.parent / found.data))

    def _check(self, recipe: Recipe, found: Mapping[str, Any]) -> None:
        """All that can be known to be wrong, each at the line of its field."""
        plain = Recipe(recipe.inputs)
        steps: dict[str, Callable[[], Any]] = {
            "strategy": lambda: strategies.get(recipe.strategy),
            "config": lambda: strategies.get(recipe.strategy).config(recipe.config),
            **{n: partial(_alone, plain, n, getattr(recipe, n)) for n in ("rank", "energy", "replaced", "dtype")},
            "inputs": lambda: checked(recipe),
        }
        for name, step in steps.items():
            try:
                step()
            except UsageError as error:
                node = found.get(name, found.get("strategy", found["inputs"]))
                raise self.file.error(node.start_mark.line, error.fact, hint=error.hint) from error

    def _inputs(self, node: Node) -> tuple[Input, ...]:
        if node.id != "sequence" or not node.value:
            raise self.file.error(node.start_mark.line, "`inputs` must be a list of one or more adapters")
        return tuple(self._input(item) for item in node.value)

    def _input(self, node: Node) -> Input:
        found = self.file.fields(node, INPUT_FIELDS, "an input")
        if "adapter" not in found:
            raise self.file.error(
                node.start_mark.line, "an input wants `adapter`", hint="give a file, a folder or a name"
            )
        source = self._value("adapter", found["adapter"])
        weight: Any = 1.0
        if "weight" in found:
            try:
                weight = weighting.checked(self.file.value("weight", found["weight"]), source)
            except UsageError as error:
                raise self.file.error(found["weight"].start_mark.line, error.fact, hint=error.hint) from None
        digest = self._value("digest", found["digest"]) if "digest" in found else ""
        return Input(resolve(source, self.path.parent), weight, digest)

    def _value(self, name: str, node: Node) -> Any:
        value = self.file.value(name, node)
        wrong_bool = isinstance(value, bool) and bool not in KINDS[name]
        if not isinstance(value, KINDS[name]) or wrong_bool:
            want = " or ".join(kind.__name__ for kind in KINDS[name])
            raise self.file.error(node.start_mark.line, f"`{name}`", got=f"`{shown(repr(value))}`", want=want)
        return value


def _alone(plain: Recipe, name: str, value: Any) -> None:
    checked(dataclasses.replace(plain, **{name: value}))
