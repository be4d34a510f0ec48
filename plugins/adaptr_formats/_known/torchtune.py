"""torchtune's LoRA."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Torchtune(Format):
    name = "torchtune"
    tool = "torchtune"
    called = "a torchtune LoRA"
    marks = Marks(keys=(r".*\.lora_[ab]\.weight",))
