"""diffusers' LoRA, in the three ways it has had of naming tensors."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Diffusers(Format):
    name = "diffusers"
    tool = "diffusers"
    called = "a diffusers LoRA"
    marks = Marks(
        files=("pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin"),
        keys=(
            r".*(_lora\.(down|up)|\.lora\.(down|up)|lora_linear_layer\.(down|up))\.weight",
            r"(unet|transformer|text_encoder\w*|diffusion_model)\..*\.lora_[AB]\.weight",
        ),
    )
