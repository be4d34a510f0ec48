"""AdapterHub's gates, σ(g x + c): one for each text, the mean of those of its tokens.

Its mean is over padding too, so that what comes out for a text depends on the longest of its batch; here it is over the
text, which is the same where nothing is padded. Of models that generate, its gates look ahead, and so do these, which
are refused behind a cache.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from adaptr.errors import TrainedOtherwise
from adaptr.foreign.draft import Piece

if TYPE_CHECKING:
    from adaptr.foreign.pieces.module import Module

OF = "text"
#: By adaptr's names.
SLOTS = {"g": "weight", "c": "bias"}
GATE = "gate."


def warn(name: str) -> None:
    """What a file's gates were trained as that they are not here."""
    warnings.warn(
        f"`{name}`: AdapterHub's gates are means over padding too, and adaptr's over each text alone: the same where "
        "the texts of a batch are equally long",
        TrainedOtherwise,
        stacklevel=4,
    )


def pieces(module: Module, count: int, width: int, prefix: str = GATE) -> dict[str, Piece]:
    """`g` (count width) and `c` (count)."""
    for name, wanted in (("g", (count, width)), ("c", (count,))):
        slot = f"{prefix}{SLOTS[name]}"
        module.require(slot, module.shape(slot, (len(wanted),)) == wanted, f"{wanted}, as the others say")
    sizes = {"g": (count * width,), "c": (count,)}
    return {name: module.piece(f"{prefix}{slot}", sizes[name]) for name, slot in SLOTS.items()}
