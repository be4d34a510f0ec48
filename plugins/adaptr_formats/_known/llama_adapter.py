"""LLaMA-Adapter: prompts of the upper layers."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class LlamaAdapter(Format):
    name = "llama-adapter"
    tool = "LLaMA-Adapter"
    called = "a LLaMA-Adapter"
    marks = Marks(keys=(r"adapter_query\.weight",))
