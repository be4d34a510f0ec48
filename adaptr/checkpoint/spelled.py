"""A checkpoint's tensors under the names that another library has for their modules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from adaptr.checkpoint.open import Checkpoint
from adaptr.checkpoint.stored import Stored
from adaptr.networks import spellings


@dataclass(frozen=True)
class Spelled:
    """Tensors under another library's name of a module: one, several that lie one behind the other along the rows, or
    one of which it is only part number `part`. `swapped`: one with the halves of its rows in the other order.
    """

    stored: tuple[Stored, ...]
    part: int | None = None
    swapped: bool = False

    @property
    def same(self) -> Stored | None:
        """The tensor that is the parameter as it is, but for its name."""
        return self.stored[0] if self.part is None and len(self.stored) == 1 and not self.swapped else None


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
            yield Spelled(
                stored, spelling.part, spelling.paired and _is_pair(tensors.get(f"{spelling.paths[0]}.weight"))
            )


def _is_pair(weight: Stored | None) -> bool:
    """Whether the rows of a modulation are a scale and a shift, each as wide as the model, and no more."""
    shape = () if weight is None else weight.entry.shape
    return len(shape) != 2 or shape[0] == 2 * shape[1]
