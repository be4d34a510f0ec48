"""OneTrainer's LoRA: diffusers' paths, kohya's names of tensors, alphas as tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.foreign import NOTHING, Format, Marks, Supplied
from adaptr_formats import omi

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel


class Onetrainer(Format):
    name = "onetrainer"
    tool = "OneTrainer"
    called = "a OneTrainer LoRA"
    folder = False
    asks = frozenset({"alpha", "scale"})
    marks = Marks(
        suffixes=(".safetensors",),
        keys=(r"(unet|transformer|prior|text_encoder\w*)\..*\.lora_(down|up)\.weight",),
        others=(rf"{omi.STARTS}\..*", r"transformer\.context_embedder\..*"),
    )

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr.foreign.pieces import dotted

        return dotted.read(self.weights(path), base, self.name, None, supplied)
