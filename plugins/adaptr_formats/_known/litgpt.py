"""LitGPT's LoRA, on fused projections."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Litgpt(Format):
    name = "litgpt"
    tool = "LitGPT"
    called = "a LitGPT LoRA"
    marks = Marks(
        files=("lit_model.pth.lora",),
        keys=(r".*\.(attn|attention)\.(attn|qkv)\.lora_[AB]",),
    )
