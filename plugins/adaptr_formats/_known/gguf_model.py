"""GGUF, llama.cpp's files: those that hold a model, or an adapter that is no LoRA."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class GgufModel(Format):
    name = "gguf-model"
    tool = "llama.cpp"
    called = "a GGUF file (llama.cpp) that holds no LoRA"
    way = "an adapter was wanted: a GGUF LoRA, or another tool's; of a model, `--base` takes this file"
    marks = Marks(first=(b"GGUF",))
