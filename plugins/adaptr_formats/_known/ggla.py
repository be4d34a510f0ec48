"""llama.cpp's adapters of before GGUF."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Ggla(Format):
    name = "ggla"
    tool = "llama.cpp"
    called = "an obsolete llama.cpp adapter (ggla)"
    way = "convert the adapter that it was made of again: llama.cpp has had GGUF for it since August 2024"
    marks = Marks(first=(b"algg",))
