"""A checkpoint's tensors under the names that another library has for their modules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from adaptr.checkpoint.open import Checkpoint, Stored
from adaptr.networks import spellings


@dataclass(frozen=True)
class Spelled:
    """Tensors under another library's name of a module: one, several that lie one behind the other along the rows, or
    one of which it is only part number `part`.
    """

    stored: tuple[Stored, ...]
    part: int | None = None


def spelled(checkpoint: Checkpoint, name: str) -> Spelled | None:
    """What the parameter `name` of an image model is there, None where it is not."""
    return next(_spelled(checkpoint, name), None)


def _spelled(checkpoint: Checkpoint, name: str) -> Iterator[Spelled]:
    path, _, leaf = name.rpartition(".")
    tensors = checkpoint.tensors
    for spelling in spellings(path):
        found = [tensors.get(f"{one}.{leaf}") or tensors.get(f"{one}_{leaf}") for one in spelling.paths]
        stored = tuple(one for one in found if one is not None)
        if len(stored) == len(found):
            yield Spelled(stored, spelling.part)
