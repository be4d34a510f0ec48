"""LitGPT's LLaMA-Adapters: `lit_model.pth.adapter`, of every layer from one on rows `adapter_wte.weight` (tokens,
width) and a factor for each head, `gating_factor` (1, 1, heads, 1), at first (1, heads, 1, 1); and
`lit_model.pth.adapter_v2`, which has the weights of norms besides, and of each linear layer `adapter_scale` and
`adapter_bias` (out): y = scale ∘ (W x + b + bias).

LitGPT since 0.5 has queries, keys and values one after the other in its projection, and cuts what the rows become as if
they were by groups: with several groups their keys and values come of rows of queries too. Such files, and those of
before that look the same, are refused, and none is written: a base has to have one group of keys, which its
`model_config.yaml` says where it lies beside. LitGPT's own configuration says how many tokens there are
(`adapter_prompt_length`, 10) and from which layer on (`adapter_start_layer`, 2), and no file does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.foreign import NOTHING, Format, Marks, Supplied, Written

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel


class LitgptAdapter(Format):
    name = "litgpt-adapter"
    tool = "LitGPT"
    called = "a LitGPT LLaMA-Adapter"
    marks = Marks(
        files=("lit_model.pth.adapter", "lit_model.pth.adapter_v2"),
        keys=(
            r"transformer\.h\.\d+\.attn\.(adapter_wte\.weight|gating_factor)",
            r"(transformer\.h\.\d+\.(attn\.(qkv|proj)|mlp\.(fc(_[12])?|proj))|lm_head)\.adapter_(scale|bias)",
        ),
    )

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr_formats.litgpt_adapter.reading import read

        return read(self.weights(path), base)

    def based(self, adapter: Adapter, base: BaseModel) -> Adapter:
        from adaptr_formats.litgpt_adapter.writing import with_norms

        return with_norms(adapter, base)

    def lost(self, adapter: Adapter) -> list[str]:
        from adaptr_formats.litgpt_adapter.writing import lost

        return lost(adapter)

    def save(self, adapter: Adapter, out: Path, force: bool) -> Written:
        from adaptr_formats.litgpt_adapter.writing import save

        return save(adapter, out, force)
