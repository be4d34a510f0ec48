"""A base and what it was tuned to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from checkpoints import bare, tensors_of

Pair = Callable[..., tuple[Path, Path]]


def edited(base: Path, folder: Path, **changes: Tensor | None) -> Path:
    """A copy of a checkpoint with some tensors (`__` for `.`) changed, added or removed."""
    tensors = tensors_of(base)
    for name, value in changes.items():
        key = name.replace("__", ".")
        tensors.pop(key, None)
        if value is not None:
            tensors[key] = value
    return bare(folder, tensors, json.loads((base / "config.json").read_text()))
