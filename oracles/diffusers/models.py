"""The small networks of the cases, in diffusers and transformers. `python models.py` writes `shapes.json` anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

_UNET: dict[str, Any] = {
    "sample_size": 8, "in_channels": 4, "out_channels": 4, "norm_num_groups": 4, "layers_per_block": 2,
}  # fmt: skip


def sd15() -> Any:
    return UNet2DConditionModel(
        **_UNET, block_out_channels=(8, 8, 16, 16), cross_attention_dim=16, attention_head_dim=2,
        down_block_types=(*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * 3),
    )  # fmt: skip


def sdxl() -> Any:
    return UNet2DConditionModel(
        **_UNET, block_out_channels=(8, 16, 32), cross_attention_dim=36, attention_head_dim=(2, 2, 4),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 3), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=68,
    )  # fmt: skip


def flux() -> Any:
    return FluxTransformer2DModel(
        in_channels=8, num_layers=2, num_single_layers=2, attention_head_dim=8, num_attention_heads=3,
        joint_attention_dim=16, pooled_projection_dim=16, guidance_embeds=True, axes_dims_rope=(2, 2, 4),
    )  # fmt: skip


def clip(width: int = 16) -> Any:
    """The class that has `text_model` in its names in transformers 5 too, as diffusers' loaders of encoders want."""
    made = CLIPTextConfig(
        vocab_size=60, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, projection_dim=width, eos_token_id=2,
    )  # fmt: skip
    return CLIPTextModelWithProjection(made)


PIPELINES: dict[str, dict[str, Callable[[], Any]]] = {
    "sd15": {"unet": sd15, "text_encoder": clip},
    "sdxl": {"unet": sdxl, "text_encoder": clip, "text_encoder_2": lambda: clip(20)},
    "flux": {"transformer": flux, "text_encoder": clip},
}

if __name__ == "__main__":
    found = {
        pipeline: {
            f"{component}.{name}": list(tensor.shape)
            for component, make in parts.items()
            for name, tensor in make().state_dict().items()
        }
        for pipeline, parts in PIPELINES.items()
    }
    (Path(__file__).parent / "shapes.json").write_text(json.dumps(found, sort_keys=True) + "\n")
