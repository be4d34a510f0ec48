"""LoRA-ViT: numbered pairs."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class LoraVit(Format):
    name = "lora-vit"
    tool = "LoRA-ViT"
    called = "a LoRA-ViT file"
    marks = Marks(keys=(r"w_[ab]_\d+",))
