"""OneTrainer's LoRA."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Onetrainer(Format):
    name = "onetrainer"
    tool = "OneTrainer"
    called = "a OneTrainer LoRA"
    marks = Marks(keys=(r"(unet|transformer|prior|text_encoder\w*)\..*\.lora_(down|up)\.weight",))
