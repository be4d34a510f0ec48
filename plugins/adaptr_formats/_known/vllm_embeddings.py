"""New tokens' embeddings, as vLLM loads them beside a LoRA."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class VllmEmbeddings(Format):
    name = "vllm-embeddings"
    tool = "vLLM"
    called = "embeddings that vLLM loads beside a LoRA"
    way = "they belong beside a LoRA, in the folder with `adapter_config.json`: name that"
    marks = Marks(keys=(r"(input|output)_embeddings",))
