"""Readers of what research code and its trainers save: one of their formats at a time."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np

from adaptr import foreign
from fuzz import mutations
from fuzz.readers.examples import Example, Reader

#: A file or folder of a format, damaged or not, and whether it is well formed.
Made = Callable[[Random, Path], tuple[Path, bool]]


def _t5x(random: Random, folder: Path) -> tuple[Path, bool]:
    shape = [random.choice((0, 1, 2, 3, 9)) for _ in range(random.choice((2, 2, 2, 1, 3)))]
    value = np.ones(shape, random.choice(("<f4", ">f2", "<f8", "<i4", "?", "<c8", "U3")))
    np.save(file := io.BytesIO(), value)
    raw = mutations.flipped(random, file.getvalue()) if random.random() < 0.6 else file.getvalue()
    (folder / "x.npy").write_bytes(raw)
    return folder / "x.npy", raw.startswith(b"\x93NUMPY\x01\x00")


MADE: dict[str, Made] = {"t5x": _t5x}


def _research(folder: Path) -> dict[str, Reader]:
    """Files of each, alone."""
    for name in MADE:
        (folder / f"research-{name}").mkdir()

    def example(random: Random) -> Example:
        name = random.choice(list(MADE))
        path, formed = MADE[name](random, folder / f"research-{name}")
        return formed, lambda: dict(foreign.get(name).read(path).tensors)

    return {"research": example}


READERS = (_research,)
