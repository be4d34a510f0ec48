"""LitGPT's LLaMA-Adapter, and version 2 of it."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class LitgptAdapter(Format):
    name = "litgpt-adapter"
    tool = "LitGPT"
    called = "a LitGPT LLaMA-Adapter"
    marks = Marks(
        files=("lit_model.pth.adapter", "lit_model.pth.adapter_v2"),
        keys=(r"transformer\.h\.\d+\.attn\.(adapter_wte\.weight|gating_factor)",),
    )
