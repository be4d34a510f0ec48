"""Fields of `adapter_config.json`, their types checked, and patterns that give a rank or alpha to some targets."""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from adaptr.errors import ConfigConflict, ConfigMissing, Unsupported, UsageError, phrases
from adaptr.foreign.peft.patterns import matches

T = TypeVar("T")

PATTERN_LIMIT = 400


def misread(name: str, value: object, want: str) -> ConfigConflict:
    """The error of a field that is no `want`."""
    said = reprlib.repr(value)
    return ConfigConflict(f"`{name}` in `adapter_config.json`", got=said, want=want, hint="correct it there")


def number(config: Mapping[str, Any], name: str, default: float | None = None) -> float:
    """A finite number. Raises `ConfigMissing` if it is absent and has no default, `ConfigConflict` if it is none."""
    value = config.get(name, default)
    if value is None:
        raise ConfigMissing(f"`adapter_config.json` has no `{name}`", hint=phrases.AGAIN)
    return _number(name, value)


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
        raise misread(name, value, "a number")
    return value


def size(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    """A positive integer."""
    return _size(name, number(config, name, default))


def _size(name: str, value: float) -> int:
    if value != int(value) or value < 1:
        raise misread(name, value, "a positive integer")
    return int(value)


def flag(config: Mapping[str, Any], name: str) -> bool:
    """True or false; absent and null are false."""
    value = config.get(name)
    if not isinstance(value, bool | None):
        raise misread(name, value, "true or false")
    return bool(value)


def text(config: Mapping[str, Any], name: str) -> str:
    """A text; absent and null are empty."""
    value = config.get(name)
    if not isinstance(value, str | None):
        raise misread(name, value, "a text")
    return value or ""


def words(config: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts, or one; absent and null are empty."""
    value = config.get(name) or []
    value = [value] if isinstance(value, str) else value
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise misread(name, value, "a list of names")
    return value


def pattern(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A table of patterns. Raises `ConfigConflict` for what is no regular expression or no number."""
    table = config.get(name) or {}
    if not isinstance(table, Mapping):
        raise misread(name, table, "a table of patterns")
    for key, value in table.items():
        if len(key) > PATTERN_LIMIT:
            raise ConfigConflict(
                f"`{name}`",
                verb="has",
                got=f"a pattern of {len(key)} characters",
                want=f"at most {PATTERN_LIMIT}",
                hint="write it shorter, or list the modules",
            )
        matches(_anchored(key), "")
        _number(f"{name}[{key}]", value)
    return table


def _anchored(key: str) -> str:
    return rf"(.*\.)?({key})"


def matching(table: Mapping[str, T], path: str, default: T) -> T:
    """The value of the first pattern that matches the end of `path`, on whole components, as PEFT chooses it."""
    return next((value for key, value in table.items() if matches(_anchored(key), path)), default)


def named(spec: list[str] | str | None, path: str) -> bool:
    """Whether `path` is one of `spec`'s modules: a list of path ends, or one regular expression."""
    if isinstance(spec, str):
        return matches(spec, path)
    return any(path == word or path.endswith(f".{word}") for word in spec or [])


def refuse(config: Mapping[str, Any], fields: Mapping[str, str]) -> None:
    """Raises `Unsupported` for fields that change what the tensors mean in a way that adaptr can't follow."""
    for name, reason in fields.items():
        if config.get(name):
            raise Unsupported(
                f"`{name}` is set in `adapter_config.json`: {reason}",
                hint="use it in the tool that wrote it, or train it without",
            )


def patterns(values: Mapping[str, Any], common: object) -> dict[str, Any]:
    """The table that gives each path its value where it is not the `common` one, the inverse of `matching`."""
    paths = list(values)
    return {_exact(path, paths): value for path, value in values.items() if value != common}


def by_path(values: Mapping[str, Any], common: object) -> dict[str, Any]:
    """The same table by whole paths, for types whose patterns ask for something before a path, or else for itself."""
    return {path: value for path, value in values.items() if value != common}


def _exact(path: str, paths: Iterable[str]) -> str:
    """A pattern that matches `path` and none of the other `paths`."""
    escaped = re.escape(path).replace(r"\-", "-")
    shared = any(other != path and other.endswith(f".{path}") for other in paths)
    return f"^{escaped}" if shared else escaped


def common(values: Mapping[str, Any]) -> Any:
    """The most frequent value, the smallest of those that are."""
    counted = Counter(values.values())
    return min(counted, key=lambda value: (-counted[value], value))


def task(tasks: int, asked: int | None) -> int:
    """Which of a file's tasks is meant. Raises `ConfigMissing` where there are several and nobody said."""
    if asked is None and tasks > 1:
        raise ConfigMissing(
            f"the file is another adapter for each of its {tasks} tasks",
            hint=f"say which (`--task-number`, 0 to {tasks - 1}; `adaptr.source(..., task=0)` in Python)",
        )
    if asked is not None and asked >= tasks:
        raise UsageError("the task", got=f"`{asked}`", want=f"one of {tasks}, from 0 on")
    return asked or 0


def version(config: Mapping[str, Any]) -> tuple[int, int]:
    """PEFT's version that wrote a file, (0, 0) where it did not say (before 0.18)."""
    found = re.match(r"(\d+)\.(\d+)", text(config, "peft_version"))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def ranked(config: Mapping[str, Any], path: str, rank: str, alpha: str) -> dict[str, Any]:
    """{r, alpha} of one target, from the fields called `rank` and `alpha` and the patterns over them."""
    r = matching(pattern(config, "rank_pattern"), path, number(config, rank))
    scale = matching(pattern(config, "alpha_pattern"), path, number(config, alpha))
    return {"r": _size("r", r), "alpha": scale}


def ranks(configs: Mapping[str, Mapping[str, Any]], alpha: str) -> dict[str, Any]:
    """The fields r, alpha and the patterns over them that say the same: the inverse of `ranked`."""
    r, scales = ({path: c[name] for path, c in configs.items()} for name in ("r", "alpha"))
    return {
        "r": common(r),
        alpha: common(scales),
        "rank_pattern": patterns(r, common(r)),
        "alpha_pattern": patterns(scales, common(scales)),
    }


def complete(method: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with the method's own defaults for what PEFT's configuration doesn't say."""
    from adaptr import plugins

    found: dict[str, Any] = vars(plugins.method(method).config(values)).copy()
    return found
