"""X-LoRA as its own package writes it."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Xlora(Format):
    name = "xlora"
    tool = "X-LoRA"
    called = "an X-LoRA"
    marks = Marks(files=("xlora_config.json",))
