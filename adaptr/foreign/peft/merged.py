"""LoRA of a fused layer as loralib's MergedLinear has it, and PEFT before 0.3 (`enable_lora`): one pair for each part.

A (k r, in) and B (k out/n, r), of PEFT (k out/n, r, 1), of the k parts of n that are adapted; the others don't change.
As one pair of rank k r, B is block-diagonal with rows of zeros.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.errors import ConfigConflict, phrases
from adaptr.foreign.draft import Piece
from adaptr.foreign.peft.config import misread

if TYPE_CHECKING:
    from torch import Tensor

Parts = tuple[bool, ...]


def parts(config: Mapping[str, Any]) -> Parts:
    """Which parts of each layer are adapted; empty for plain LoRA."""
    found = config.get("enable_lora")
    if found is None:
        return ()
    if not isinstance(found, list) or not all(isinstance(part, bool) for part in found) or not any(found):
        raise misread("enable_lora", found, "a list of true and false")
    return tuple(found)


def values(enabled: Parts, given: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of the one pair: its rank counts all parts, its scale is that of each."""
    k = sum(enabled)
    return {**given, "r": given["r"] * k, "alpha": given["alpha"] * k}


def pieces(
    enabled: Parts, path: str, found: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]], rank: int
) -> dict[str, Piece]:
    """A (rank, in) and B (out, rank) inside PEFT's tensors of these `shapes`; `rank` is of all parts together."""
    k, n = sum(enabled), len(enabled)
    r, (rows, *rest) = rank // k, shapes["B"]
    if shapes["A"][0] != rank or rest != [r, 1] or rows % k:
        raise ConfigConflict(
            f"`{path}`: {k} parts of rank {r} don't have factors of shapes {dict(shapes)}", hint=phrases.AGAIN
        )
    return {
        "A": Piece(found["A"], shapes["A"]),
        "B": Piece(found["B"], (rows // k * n, rank), then=functools.partial(_diagonal, enabled)),
    }


def _diagonal(enabled: Parts, B: Tensor) -> Tensor:
    k, B = sum(enabled), B.flatten(1)
    r = B.shape[1]
    full = B.new_zeros(len(enabled), B.shape[0] // k, k, r)
    for j, part in enumerate(i for i, on in enumerate(enabled) if on):
        full[part, :, j] = B.chunk(k)[j]
    return full.flatten(2).flatten(0, 1)
