"""Adapters of PEFT on models of random weights, as adaptr writes them for MLX-LM, and PEFT's logits. make.py FOLDER"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cases
import peft
import torch
import transformers as t

import adaptr

IDS = [[5, 97, 80, 33, 120, 44, 101, 66, 72, 90, 113]]
SIZES = {"hidden_size": 48, "intermediate_size": 72, "num_hidden_layers": 3, "num_attention_heads": 6,
         "num_key_value_heads": 2, "vocab_size": 262, "max_position_embeddings": 128, "pad_token_id": 0,
         "tie_word_embeddings": False}  # fmt: skip
MODELS: dict[str, Any] = {
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**SIZES)),
    "qwen2": lambda: t.Qwen2ForCausalLM(
        t.Qwen2Config(**SIZES, rope_parameters={"rope_type": "default", "rope_theta": 1e6})
    ),
    "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**SIZES, head_dim=8)),
    "gemma2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**{**SIZES, "tie_word_embeddings": True}, head_dim=8)),
}
LINEAR: dict[str, Any] = {
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "r": 4,
    "lora_alpha": 10,
}
QV: dict[str, Any] = {**LINEAR, "target_modules": ["q_proj", "v_proj"]}
OWN: dict[str, Any] = {**LINEAR, "alpha_pattern": {"k_proj": 3, "down_proj": 11}, "rank_pattern": {"v_proj": 2}}
DORA = {"use_dora": True}
#: Case to its model and PEFT's configuration.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("llama", LINEAR),
    "lora, scale by the root of the rank": ("llama", {**QV, "use_rslora": True}),
    "lora, the last layer": ("llama", {**QV, "layers_to_transform": [2]}),
    "lora, the layer in the middle": ("llama", {**QV, "layers_to_transform": [1]}),
    "lora, all layers but the last": ("llama", {**QV, "layers_to_transform": [0, 1]}),
    "lora, ranks and scales of their own": ("llama", OWN),
    "lora, table and head": ("llama", {**QV, "target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
    "dora": ("llama", LINEAR | DORA),
    "dora, the last layer": ("llama", {**QV, **DORA, "layers_to_transform": [2]}),
    "dora, ranks and scales of their own": ("llama", OWN | DORA),
    "qwen2, lora on layers with biases": ("qwen2", LINEAR),
    "qwen2, dora on layers with biases": ("qwen2", LINEAR | DORA),
    "qwen3, lora": ("qwen3", LINEAR),
    "gemma2, lora": ("gemma2", LINEAR),
}


def made(name: str) -> Any:
    """The model `name`, the same values each time, large enough that every layer is heard in the outputs."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=1.0 if parameter.ndim == 1 else 0.0, std=0.15)
    return model


def adapted(name: str, config: dict[str, Any]) -> Any:
    model = peft.get_peft_model(made(name), peft.LoraConfig(**config))
    torch.manual_seed(1)
    for key, parameter in model.named_parameters():
        if "lora_magnitude" in key:
            parameter.data *= 1 + 0.2 * torch.randn(parameter.shape)
        elif "lora_" in key:
            parameter.data = 0.2 * torch.randn(parameter.shape)
    return model.eval()


def logits(model: Any) -> list[Any]:
    with torch.no_grad():
        found: list[Any] = model(torch.tensor(IDS)).logits[0].double().tolist()
    return found


def made_in(folder: Path) -> Iterator[dict[str, Any]]:
    for name in MODELS:
        made(name).save_pretrained(folder / name)
        yield {"name": f"{name}, the base", "base": name, "adapter": "", "outputs": logits(made(name))}
    for number, (name, (base, config)) in enumerate(CASES.items()):
        model = adapted(base, config)
        model.save_pretrained(folder / f"peft{number}", save_embedding_layers=False)
        adaptr.convert(folder / f"peft{number}", folder / f"mlx{number}", to="mlx", base=folder / base)
        yield {"name": name, "base": base, "adapter": f"mlx{number}", "outputs": logits(model)}


def main(folder: Path) -> None:
    cases.write(folder, made_in(folder), ids=IDS, limit=1e-4)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
