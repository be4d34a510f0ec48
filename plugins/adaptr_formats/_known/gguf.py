"""GGUF, llama.cpp's files."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Gguf(Format):
    name = "gguf"
    tool = "llama.cpp"
    called = "a GGUF file (llama.cpp)"
    marks = Marks(first=(b"GGUF",))
