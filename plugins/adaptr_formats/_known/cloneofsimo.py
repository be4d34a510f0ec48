"""cloneofsimo's lora: U-Net and text encoder as numbered pairs."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Cloneofsimo(Format):
    name = "cloneofsimo"
    tool = "cloneofsimo's lora"
    called = "a cloneofsimo LoRA"
    marks = Marks(keys=(r"(unet|text_encoder):\d+:(up|down)",))
