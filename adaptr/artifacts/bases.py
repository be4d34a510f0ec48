"""What a base model is, from the headers of its files: how its weights lie, and what is merged into them."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from adaptr.checkpoint import Checkpoint, Stored, open_checkpoint
from adaptr.checkpoint.packed import Packed
from adaptr.merging import receipt
from adaptr.report import Report
from adaptr.sources.resolve import Place, resolve


@dataclass(frozen=True)
class Lying:
    """Weights that lie in one way: of one dtype, or packed by one scheme. `bits`: of each number, scales counted."""

    scheme: str
    tensors: int
    numbers: int
    bytes: int

    @property
    def bits(self) -> float:
        return 8 * self.bytes / self.numbers if self.numbers else 0.0


@dataclass(frozen=True)
class BaseInspection(Report):
    """A base model as its headers describe it. `merged`: the adapters that its receipt names."""

    source: str
    files: int
    size: int
    architecture: str
    numbers: int
    lying: tuple[Lying, ...]
    merged: tuple[Mapping[str, Any], ...]

    def as_dict(self) -> dict[str, Any]:
        return {"kind": "base", **dataclasses.asdict(self)}


def describe(source: Place) -> BaseInspection:
    """Raises `CheckpointError` for what is none, or is damaged."""
    checkpoint = open_checkpoint(resolve(source).path)
    return BaseInspection(
        source=str(source),
        files=len(checkpoint.shards),
        size=checkpoint.nbytes,
        architecture=_architecture(checkpoint),
        numbers=sum(math.prod(stored.entry.shape) for stored in checkpoint.tensors.values()),
        lying=tuple(_lying(checkpoint.tensors.values())),
        merged=_merged(checkpoint),
    )


def _architecture(checkpoint: Checkpoint) -> str:
    said = checkpoint.config.get("architectures") or [checkpoint.config.get("model_type", "")]
    return str(next(iter(said), ""))


def _lying(tensors: Iterable[Stored]) -> list[Lying]:
    count, numbers, size = Counter[str](), Counter[str](), Counter[str]()
    for stored in tensors:
        scheme, nbytes = stored.entry.dtype, stored.entry.nbytes
        if isinstance(stored, Packed):
            scheme, nbytes = stored.codec.scheme, stored.nbytes
        count[scheme] += 1
        numbers[scheme] += math.prod(stored.entry.shape)
        size[scheme] += nbytes
    return [Lying(one, count[one], numbers[one], size[one]) for one in sorted(size, key=lambda it: (-size[it], it))]


def _merged(checkpoint: Checkpoint) -> tuple[Mapping[str, Any], ...]:
    there = (receipt.place(checkpoint.root) / receipt.FILE).is_file()
    return tuple(receipt.read(checkpoint.root).adapters) if there else ()
