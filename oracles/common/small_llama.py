"""A small Llama of random weights in the files of transformers, made without it, and some ids that it may be given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cases
import torch
from safetensors.torch import save_file

LAYERS, WIDTH, INNER, HEADS, GROUPS, VOCABULARY, LENGTH = 2, 48, 72, 6, 2, 262, 128
HEAD = WIDTH // HEADS
IDS = [[5, 97, 80, 33, 120, 44, 101, 66, 72, 90, 113]]
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": WIDTH, "intermediate_size": INNER,
    "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": GROUPS, "rms_norm_eps": 1e-5,
    "vocab_size": VOCABULARY, "max_position_embeddings": LENGTH, "tie_word_embeddings": False, "dtype": "float32",
}  # fmt: skip


def shapes(groups: int = GROUPS) -> dict[str, tuple[int, ...]]:
    """The parameters by transformers' names. `groups`: heads of keys and values."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens": (VOCABULARY, WIDTH), "lm_head": (VOCABULARY, WIDTH)}
    for layer in (f"model.layers.{number}" for number in range(LAYERS)):
        rows = {"q_proj": WIDTH, "k_proj": groups * HEAD, "v_proj": groups * HEAD, "o_proj": WIDTH}
        found |= {f"{layer}.self_attn.{name}": (size, WIDTH) for name, size in rows.items()}
        found |= {f"{layer}.mlp.{name}": (INNER, WIDTH) for name in ("gate_proj", "up_proj")}
        found |= {f"{layer}.mlp.down_proj": (WIDTH, INNER)}
        found |= {f"{layer}.{name}": (WIDTH,) for name in ("input_layernorm", "post_attention_layernorm")}
    return {f"{path}.weight": shape for path, shape in {**found, "model.norm": (WIDTH,)}.items()}


def write(folder: Path, groups: int = GROUPS) -> Path:
    """The folder of the base; the same values each time, large enough that every layer is heard in the outputs."""
    draw = torch.Generator().manual_seed(0)
    drawn = {name: 0.15 * torch.randn(shape, generator=draw) for name, shape in sorted(shapes(groups).items())}
    tensors = {name: value + (1.0 if value.ndim == 1 else 0.0) for name, value in drawn.items()}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CONFIG, "num_key_value_heads": groups}), "utf-8")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def shaken(parameters: dict[str, torch.Tensor], seed: int) -> None:
    """Factors with noise for values, magnitudes with noise on theirs, in place."""
    draw = torch.Generator().manual_seed(seed)
    for name, value in sorted(parameters.items()):
        noise = 0.2 * torch.randn(value.shape, generator=draw)
        value.data = value.data * (1 + noise) if name.endswith("magnitude") else noise


def held(folder: Path, logits: Callable[[Path], torch.Tensor]) -> None:
    """`cases.held` of what the tool computes with weights in transformers' names: the base's, and what was merged."""
    cases.held(
        folder, lambda case: logits(folder / (case["adapter"] or case["base"]) / "model.safetensors"), torch.tensor
    )
