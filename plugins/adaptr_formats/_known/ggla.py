"""llama.cpp's adapters of before GGUF."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Ggla(Format):
    name = "ggla"
    tool = "llama.cpp"
    called = "an obsolete llama.cpp adapter (ggla)"
    marks = Marks(first=(b"algg",))
