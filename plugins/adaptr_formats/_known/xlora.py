"""X-LoRA as its own package writes it."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Xlora(Format):
    name = "xlora"
    tool = "X-LoRA"
    called = "an X-LoRA"
    way = (
        "its experts are adapters, which `xlora_config.json` names: `adaptr gate` learns a gate over them; "
        "its own can't be read yet"
    )
    marks = Marks(files=("xlora_config.json",))
