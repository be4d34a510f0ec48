"""Packings: checkpoints whose weights lie in fewer bits. Found by name, like methods.

A packing is a file in `adaptr_packings`, or a class given by the entry-point group `adaptr.packings`. It says which
stored tensors make one weight (`Packing`), and how rows of it are decoded and encoded (`Codec`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from adaptr.discovery import Sort
from adaptr.packings.base import Files, Packing, Weight, require_parts
from adaptr.packings.codec import Codec, Encoded, Grid, Part, Parts, Sink, Sinks

__all__ = [
    "Codec", "Encoded", "Files", "Grid", "Packing", "Part", "Parts", "Sink", "Sinks", "Weight", "claimed",
    "require_parts",
]  # fmt: skip

SORT = Sort("packing", "adaptr_packings", "adaptr.packings", "`docs/quantised-models.md`")


def claimed(said: Mapping[str, Any]) -> Packing | None:
    """The packing that a `quantization_config` is of, None for one that is not known."""
    return next((packing for packing in _all() if packing.claims(said)), None)


def _all() -> Iterator[Packing]:
    for name in SORT.names():
        found: Packing = SORT.load(name, Packing)
        yield found
