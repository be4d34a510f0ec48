"""Which modules a configuration chooses, as PEFT 0.21 chooses them (`check_target_module_exists`)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.patterns import chosen, matches

if TYPE_CHECKING:
    from torch import nn


def spec(config: Mapping[str, Any]) -> list[str] | str:
    """`target_modules`: a list of names, or one pattern."""
    given = config.get("target_modules")
    return given if isinstance(given, str) else fields_of.words(config, "target_modules")


def listed(config: Mapping[str, Any]) -> list[str]:
    """The names that `target_modules` lists, without those that other fields take out; none of a pattern."""
    given = spec(config)
    words = [] if isinstance(given, str) else dict.fromkeys(given)
    return [word for word in words if not _excluded(config, word)]


def targets(config: Mapping[str, Any], paths: Collection[str], base: nn.Module | None) -> list[str]:
    """The `paths` that are adapted. `all-linear` needs a live `base`: without, nothing is said to be."""
    given = spec(config)
    if all_linear(config):
        found = _linear(config, base)
    elif isinstance(given, str):
        found = chosen(given, paths)
    else:
        found = [path for path in paths if fields_of.named(given, path)]
        indices = layers(config)
        found = [path for path in found if layer(config, path) in indices] if indices else found
    return [path for path in found if not _excluded(config, path)]


def all_linear(config: Mapping[str, Any]) -> bool:
    """Whether the targets are every linear layer but the head, which only a model knows."""
    given = spec(config)
    return isinstance(given, str) and given.lower() == "all-linear"


def layers(config: Mapping[str, Any]) -> list[int]:
    """The numbers in `layers_to_transform`; empty for all layers."""
    given = config.get("layers_to_transform")
    found = [given] if isinstance(given, int) and not isinstance(given, bool) else given or []
    if not isinstance(found, list) or not all(type(n) is int for n in found):
        raise fields_of.misread("layers_to_transform", given, "numbers of layers")
    return found


def layer(config: Mapping[str, Any], path: str) -> int | None:
    """The number of the layer that a module is in, None outside: the first one, or that behind a `layers_pattern`."""
    names = fields_of.words(config, "layers_pattern")
    owner = "|".join(re.escape(name) for name in names) if names else r"[^.]*"
    found = re.match(rf"(?:^|.*?\.)(?:{owner})\.(\d+)\.", path)
    return int(found[1]) if found else None


def _excluded(config: Mapping[str, Any], path: str) -> bool:
    """Whether a module is left out by name, or belongs to one that is saved whole."""
    out = config.get("exclude_modules")
    if isinstance(out, str):
        left = matches(out, path)
    else:
        left = fields_of.named(fields_of.words(config, "exclude_modules"), path)
    saved = fields_of.words(config, "modules_to_save")
    return left or any(f".{word}." in f".{path}." for word in saved)


def _linear(config: Mapping[str, Any], base: nn.Module | None) -> list[str]:
    """Every linear layer of a live model but its output head."""
    from torch import nn

    from adaptr import targets as places

    if not isinstance(base, nn.Module):
        return []
    described = ((path, module, places.describe(path, module)) for path, module in base.named_modules())
    found = {path: module for path, module, target in described if target and target.is_linear}
    heads = [base.get_output_embeddings()] if hasattr(base, "get_output_embeddings") else []  # type: ignore[operator]
    if heads == [None] and config.get("task_type") == "SEQ_CLS":
        heads = [getattr(base, name) for name in ("score", "classifier") if hasattr(base, name)][:1]
    return [path for path, module in found.items() if not any(module is head for head in heads)]
