"""What differs between two headers, as people read it: what is alike at many targets is one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptr.diffing.report import Field

#: Characters of a value that are shown.
WIDTH = 40
#: Digits of a digest that tell it apart.
DIGITS = 12
_TARGET = re.compile(r"targets\.(.*)\.(kind|shape|config\.[^.]+)")
Row = tuple[str, str, str]


def rows(fields: Iterable[Field], every: bool = False) -> list[Row]:
    """(field, in a, in b): first what is said of the whole, then of its targets. `every`: each on a line of its own."""
    plain: list[Row] = []
    targets: dict[str, dict[str, tuple[Any, Any]]] = {}
    for field in fields:
        found = _TARGET.fullmatch(field.name)
        if found is None:
            plain.append((field.name, _text(field.a), _text(field.b)))
        else:
            targets.setdefault(found[1], {})[found[2]] = (field.a, field.b)
    return [*plain, *_of_targets(targets, every)]


def _of_targets(targets: Mapping[str, Mapping[str, tuple[Any, Any]]], every: bool) -> Iterator[Row]:
    """A line for what differs in one way at several targets, and for those that one side has alone."""
    alike: dict[Row, list[str]] = {}
    for path, said in targets.items():
        if "kind" in said and None in said["kind"]:
            alike.setdefault(("", _whole(said, 0), _whole(said, 1)), []).append(path)
            continue
        for name, (a, b) in said.items():
            alike.setdefault((name, _text(a), _text(b)), []).append(path)
    for (name, a, b), paths in alike.items():
        more = f" and {len(paths) - 1} more" if len(paths) > 1 and not every else ""
        for path in paths if every else paths[:1]:
            yield f"{path}{more}{name and f': {name}'}", a, b


def _whole(said: Mapping[str, tuple[Any, Any]], side: int) -> str:
    """A target that one side has alone, "-" for the other."""
    kind, shape = said["kind"][side], said.get("shape", (None, None))[side]
    return "-" if kind is None else f"{kind} {' x '.join(map(str, shape or ()))}".strip()


def _text(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return _cut(", ".join(f"{key}={_text(inner)}" for key, inner in value.items()) or "none")
    if isinstance(value, list | tuple):
        return _cut(", ".join(map(_named, value)) or "none")
    return _cut(digest(str(value)))


def _named(value: object) -> str:
    """One of several: a parent by its name, where it has one."""
    if isinstance(value, Mapping) and ("weights" in value or "digest" in value):
        return str(value.get("name") or digest(str(value.get("weights") or value["digest"])))
    return _text(value)


def digest(text: str) -> str:
    """A digest by its first digits; any other text as it is."""
    return text[7 : 7 + DIGITS] if re.fullmatch(r"sha256:[0-9a-f]{64}", text) else text


def _cut(text: str) -> str:
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."
