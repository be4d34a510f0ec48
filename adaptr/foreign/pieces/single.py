"""Formats of one file, found also in a folder: where it is the one such file, and the folder no model's or PEFT's."""

from __future__ import annotations

from pathlib import Path

from adaptr.foreign.format import Marks
from adaptr.foreign.seen import CONFIG, Seen

#: Files of a folder whose headers are looked at, at most.
MOST_FILES = 64


def locate(seen: Seen, marks: Marks, suffixes: tuple[str, ...] = (".safetensors",)) -> Path | None:
    """The file with names as in `marks`: one that is called as the tool calls it, or the only one. None for several."""
    if not seen.folder:
        return marks.locate(seen)
    if CONFIG in seen.files or "config.json" in seen.files:
        return None
    called = [name for name in marks.files if name in seen.files]
    others = sorted(name for name in seen.files if name.endswith(suffixes) and name not in called)
    found = [seen.path / name for name in called + others[:MOST_FILES] if marks.named(Seen(seen.path / name).names)]
    return found[0] if len(found) == 1 or (found and found[0].name in called) else None
