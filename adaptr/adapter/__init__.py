"""The values everything else passes around: an `Adapter`, and what it is made of. Frozen, and free of torch."""

from adaptr.adapter.base import Base
from adaptr.adapter.part import Part, part_keys
from adaptr.adapter.renamed import Renamed
from adaptr.adapter.target import Target, agree
from adaptr.adapter.value import REPLACED, TAKEN, WHOLE, Adapter, InTraining, numel

__all__ = [
    "REPLACED",
    "TAKEN",
    "WHOLE",
    "Adapter",
    "Base",
    "InTraining",
    "Part",
    "Renamed",
    "Target",
    "agree",
    "numel",
    "part_keys",
]
