"""Readers of image models' adapters: names, shapes, dtypes and values that are others, and headers and bytes."""

from __future__ import annotations

from pathlib import Path
from random import Random

import safetensors.torch
import torch
from torch import Tensor, nn

from adaptr import foreign
from adaptr.artifacts.inspect import inspect
from adaptr.foreign import saving
from fuzz import mutations
from fuzz.readers.examples import Example, Reader, is_header

TEXT, CONV = "lora_te_text_model_encoder_layers_0_mlp_fc1", "lora_unet_conv_in"
#: Ends of names, of which some belong together.
ENDS = (
    "lora_down.weight", "lora_up.weight", "lora_mid.weight", "alpha", "dora_scale", "hada_w1_a", "hada_w1_b", "hada_t1",
    "lokr_w1", "lokr_w2_a", "lokr_t2", "diff", "diff_b", "w_norm", "b_norm", "oft_blocks", "rescale", "on_input",
    "a1.weight", "b2.weight", "weight", "", "a.b.c", "\n",
)  # fmt: skip
WORDS = (
    "lora_te9",
    "lycoris_x",
    "lora_unet",
    "lora_te_",
    "_" * 500,
    "lora_te2_" + "layers_" * 200,
    "..",
    "lora_unet_0",
)
#: The shapes of other algorithms' tensors at a convolution (3, 4, 3, 3).
ALGORITHMS: tuple[dict[str, tuple[int, ...]], ...] = (
    {"hada_w1_a": (3, 2), "hada_w1_b": (2, 36), "hada_w2_a": (3, 2), "hada_w2_b": (2, 36), "alpha": ()},
    {
        "hada_w1_a": (2, 3), "hada_w1_b": (2, 4), "hada_w2_a": (2, 3), "hada_w2_b": (2, 4), "alpha": (),
        "hada_t1": (2, 2, 3, 3), "hada_t2": (2, 2, 3, 3),
    },
    {"lokr_w1": (3, 2), "lokr_w2_a": (1, 1), "lokr_w2_b": (1, 18), "alpha": ()},
    {"lokr_w1": (1, 2), "lokr_w2_a": (1, 3), "lokr_w2_b": (1, 2), "lokr_t2": (1, 1, 3, 3), "alpha": ()},
    {"lokr_w1": (1, 2), "lokr_w2": (3, 2, 3, 3), "alpha": ()},
    {"diff": (3, 4, 3, 3), "diff_b": (3,)},
    {"oft_blocks": (1, 3, 3), "rescale": (3, 1, 1, 1), "alpha": ()},
    {"oft_blocks": (1, 2, 4, 4), "alpha": ()},
    {"weight": (1, 3, 1, 1), "on_input": ()},
    {"a1.weight": (4, 2, 1, 1), "a2.weight": (2, 4, 1, 1), "b1.weight": (3, 2, 1, 1), "b2.weight": (2, 4, 3, 3),
     "alpha": ()},
)  # fmt: skip


def tensors() -> list[dict[str, Tensor]]:
    """LoRA of linear layers and convolutions, with a core, with magnitudes."""
    linear = {f"{TEXT}.lora_down.weight": torch.ones(2, 4), f"{TEXT}.lora_up.weight": torch.ones(3, 2)}
    kernel = {f"{CONV}.lora_down.weight": torch.ones(2, 4, 3, 3), f"{CONV}.lora_up.weight": torch.ones(3, 2, 1, 1)}
    core = {f"{CONV}.lora_down.weight": torch.ones(2, 4, 1, 1), f"{CONV}.lora_mid.weight": torch.ones(2, 2, 3, 3)}
    alphas = {f"{name}.alpha": torch.tensor(1.0) for name in (TEXT, CONV)}
    return [
        linear | kernel | alphas,
        {key: value.half() for key, value in (linear | kernel | core | alphas).items()},
        linear | {f"{TEXT}.alpha": torch.tensor(2), f"{TEXT}.dora_scale": torch.ones(3, 1)},
        *({f"{CONV}.{end}": torch.ones(shape) for end, shape in one.items()} for one in ALGORITHMS),
    ]


def _kohya(folder: Path) -> dict[str, Reader]:
    """Alone and for a base that has one of their modules."""
    valid, file = tensors(), folder / "kohya.safetensors"
    base = nn.ModuleDict({"conv_in": nn.Conv2d(4, 3, 3)})

    def example(random: Random) -> Example:
        raw = safetensors.torch.save(
            mutations.tensors(random, random.choice(valid), ENDS, WORDS), {"ss_network_dim": "2"}
        )
        if random.random() < 0.3:
            raw = mutations.safetensors(random, raw, saving.ABOUT)
        file.write_bytes(raw)
        known = random.choice((None, base))

        def read() -> None:
            inspect(file)
            dict(foreign.get("kohya").read(file, known).tensors)

        return is_header(raw), read

    return {"kohya": example}


#: Of (3, 4) at modules with paths of their own: ends of names of two factors, and what each tool begins them with.
DOTTED = (
    ("unet.conv_in.", ("lora_A.weight", "lora_B.weight")),
    ("down_blocks.0.attn1.", ("processor.to_q_lora.down.weight", "processor.to_q_lora.up.weight")),
    ("text_encoder.encoder.layers.0.mlp.fc1.", ("lora_linear_layer.down.weight", "lora_linear_layer.up.weight")),
    ("diffusion_model.double_blocks.0.img_attn.qkv.", ("lora_down.weight", "lora_up.weight")),
    ("unet.mid_block.", ("lora_down.weight", "lora_up.weight")),
)


def _dotted(folder: Path) -> dict[str, Reader]:
    """Files of diffusers, ComfyUI and OneTrainer, with and without a configuration in the header."""
    file = folder / "dotted.safetensors"

    def example(random: Random) -> Example:
        start, ends = random.choice(DOTTED)
        valid = {start + end: torch.ones(shape) for end, shape in zip(ends, ((2, 4), (3, 2)), strict=True)}
        if random.random() < 0.5:
            valid[f"{start}alpha"] = torch.tensor(2.0)
        said = mutations.text(random, {f"{start.partition('.')[0]}.{name}": value for name, value in CONFIG.items()})
        metadata = {"lora_adapter_metadata": said.decode("utf-8", "replace")} if random.random() < 0.5 else {}
        raw = safetensors.torch.save(
            mutations.tensors(random, valid, ENDS, WORDS) if random.random() < 0.6 else valid, metadata
        )
        file.write_bytes(mutations.safetensors(random, raw, saving.ABOUT) if random.random() < 0.2 else raw)

        def read() -> None:
            inspect(file)
            dict(foreign.of(file).read(file, None).tensors)

        return is_header(file.read_bytes()), read

    return {"dotted": example}


CONFIG = {"r": 2, "lora_alpha": 2, "rank_pattern": {"to_q": 2}, "alpha_pattern": {}, "use_rslora": False}
READERS = (_kohya, _dotted)
