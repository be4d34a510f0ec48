"""Readers of what research code and its trainers save: one of their formats at a time."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

import numpy as np
import torch

from adaptr import foreign
from fuzz import mutations
from fuzz.readers.examples import Example, Reader, is_archive

#: A file or folder of a format, damaged or not, and whether it is well formed.
Made = Callable[[Random, Path], tuple[Path, bool]]


def _t5x(random: Random, folder: Path) -> tuple[Path, bool]:
    shape = [random.choice((0, 1, 2, 3, 9)) for _ in range(random.choice((2, 2, 2, 1, 3)))]
    value = np.ones(shape, random.choice(("<f4", ">f2", "<f8", "<i4", "?", "<c8", "U3")))
    np.save(file := io.BytesIO(), value)
    raw = mutations.flipped(random, file.getvalue()) if random.random() < 0.6 else file.getvalue()
    (folder / "x.npy").write_bytes(raw)
    return folder / "x.npy", raw.startswith(b"\x93NUMPY\x01\x00")


def _pickled(random: Random, tensors: Mapping[str, object]) -> bytes:
    torch.save(tensors, file := io.BytesIO())
    return mutations.flipped(random, file.getvalue()) if random.random() < 0.2 else file.getvalue()


def _llama_adapter(random: Random, folder: Path) -> tuple[Path, bool]:
    tensors = random.choice((_PROMPTS, _SHIFTS))
    ends = ("gate", "weight", "wq_bias", "wo_scale", "", "\n", "x" * 900)
    tensors = mutations.tensors(random, tensors, ends, ("layers.9.attention", "norm", "visual_query", ".."), last=True)
    raw = _pickled(random, {"model": tensors, "config": {}} if random.random() < 0.3 else tensors)
    (folder / "x.pth").write_bytes(raw)
    return folder / "x.pth", is_archive(raw)


_PROMPTS = {
    "adapter_query.weight": torch.ones(4, 4),
    **{f"layers.{i}.attention.gate": torch.ones(1, 2, 1, 1) for i in (1, 2)},
}
_SHIFTS = {"layers.0.attention.wv_bias": torch.ones(4), "layers.0.feed_forward.w2_scale": torch.ones(6)}
MADE: dict[str, Made] = {"t5x": _t5x, "llama-adapter": _llama_adapter}


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
