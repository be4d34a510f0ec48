"""loralib's LoRA; LitGPT's is named like it on layers of its own, PEFT's AdaLoRA behind a prefix."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Loralib(Format):
    name = "loralib"
    tool = "loralib"
    called = "a loralib LoRA"
    marks = Marks(
        keys=(r".*\.lora_[AB]",),
        others=(r".*\.(attn|attention)\.(attn|qkv)\.lora_[AB]", r"base_model\..*"),
    )
