"""Adapter formats of other tools: what a path holds, and reading and writing it.

A format is an object with `name`, `detect(path)`, `read(path, base)` and `write(adapter, out, lossy, force)`. Built-in
ones are found by name, others by the entry-point group `adaptr.formats`, whose value is the format's class. Formats
that are only recognised so far are in `adaptr.foreign.detect`.
"""

from __future__ import annotations

import difflib
import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from adaptr.errors import UsageError
from adaptr.foreign import detect

if TYPE_CHECKING:
    from adaptr.adapter import Adapter

GROUP = "adaptr.formats"
BUILTIN = {"peft": "adaptr.foreign.peft:Peft"}


@dataclass(frozen=True)
class Written:
    """What writing a foreign file did to an adapter.

    `file`: where the tensors are. `renamed`: adaptr's tensor key to the file's. `lost`: what the format can't hold.
    """

    file: Path
    renamed: Mapping[str, str] = field(default_factory=dict)
    lost: tuple[str, ...] = ()


class Format(Protocol):
    """What a format plugin offers. `base`: a folder with a `config.json`, a live model, or None."""

    name: str

    def detect(self, path: Path) -> bool:
        """Whether `path` is of this format, by names and first bytes; nothing is loaded."""

    def read(self, path: Path, base: Any) -> Adapter:
        """The adapter at `path`; its `source` is the file with its tensors.

        Raises a `ForeignError` or `Unsupported`.
        """

    def write(self, adapter: Adapter, out: Path, lossy: bool, force: bool) -> Written:
        """Write `adapter`. Raises `LossyConversion` unless `lossy` where something has no place in the format."""


def names() -> list[str]:
    """All formats that can be read and written, built-in and installed, besides adaptr's own."""
    return sorted({*BUILTIN, *_entry_points()})


@functools.cache
def get(name: str) -> Format:
    """The format of that name. Raises `UsageError`, with near names."""
    if name in BUILTIN:
        module, _, attribute = BUILTIN[name].partition(":")
        made: Format = getattr(importlib.import_module(module), attribute)()
        return made
    point = _entry_points().get(name)
    if point is None:
        near = difflib.get_close_matches(name, ["adaptr", *names()], n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`? " if near else ""
        raise UsageError(f"there is no format `{name}`; {hint}known: adaptr, {', '.join(names())}")
    installed: Format = point.load()()
    return installed


@functools.cache
def _entry_points() -> Mapping[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}


def of(path: Path) -> Format:
    """The format that `path` is in. Raises what `detect.refusal` says if none reads it."""
    found = next((get(name) for name in names() if get(name).detect(path)), None)
    if found is None:
        raise detect.refusal(path)
    return found


def require(adapter: Adapter, base: Any) -> None:
    """Raises `TensorAbsent` where an adapter of a foreign file lacks what its configuration promises for `base`.

    `base`: a folder, a live model, or None. What was changed since it was read promises nothing.
    """
    if base is not None and "peft" in adapter.foreign:
        from adaptr.foreign.peft import promises

        found = promises.of(adapter)
        if found is not None:
            promises.require(found, base)
