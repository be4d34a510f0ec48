"""LoRA-ViT: numbered pairs."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class LoraVit(Format):
    name = "lora-vit"
    tool = "LoRA-ViT"
    called = "a LoRA-ViT file"
    way = "it names no layers: merge it in its own code, and `adaptr extract BASE TUNED` makes an adapter of the change"
    marks = Marks(keys=(r"w_[ab]_\d+",))
