"""XLabs' LoRA of Flux: processors of the double blocks, whose first pair is of the image's stream, the second of the
text's. It has no alphas: the scale is 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.foreign import NOTHING, Format, Marks, Supplied

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel


class Xlabs(Format):
    name = "xlabs"
    tool = "XLabs"
    called = "an XLabs LoRA"
    folder = False
    marks = Marks(suffixes=(".safetensors",), keys=(r"double_blocks\.\d+\.processor\..*",))

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr.foreign.pieces import dotted

        return dotted.read(self.weights(path), base, self.name, lambda metadata: dotted.unscaled, supplied)
