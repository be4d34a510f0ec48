"""The values everything else passes around: an `Adapter`, and what it is made of. Frozen, and free of torch."""

from adaptr.adapter.base import Base
from adaptr.adapter.keys import REPLACED, WHOLE, part_keys
from adaptr.adapter.part import Part
from adaptr.adapter.renamed import Renamed
from adaptr.adapter.target import Target, agree, numel
from adaptr.adapter.value import TAKEN, Adapter, InTraining

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
