"""Checkpoints and adapters of a named size, written straight to disk: random weights, real names and shapes.

`llama(folder, ...)` is TinyLlama's shape (1.1 B parameters, bf16, 5 shards); `lora(folder, ...)` a PEFT adapter for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file


@dataclass(frozen=True)
class Shape:
    """A Llama-type model. The defaults are TinyLlama-1.1B's."""

    hidden: int = 2048
    ffn: int = 5632
    layers: int = 22
    heads: int = 32
    kv_heads: int = 4
    vocab: int = 32000

    def linears(self) -> dict[str, tuple[int, int]]:
        """Linear layers of one block: name to (out, in)."""
        kv = self.kv_heads * self.hidden // self.heads
        d, f = self.hidden, self.ffn
        return {
            "self_attn.q_proj": (d, d),
            "self_attn.k_proj": (kv, d),
            "self_attn.v_proj": (kv, d),
            "self_attn.o_proj": (d, d),
            "mlp.gate_proj": (f, d),
            "mlp.up_proj": (f, d),
            "mlp.down_proj": (d, f),
        }

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield "model.embed_tokens.weight", (self.vocab, self.hidden)
        for i in range(self.layers):
            for name, shape in self.linears().items():
                yield f"model.layers.{i}.{name}.weight", shape
            yield f"model.layers.{i}.input_layernorm.weight", (self.hidden,)
            yield f"model.layers.{i}.post_attention_layernorm.weight", (self.hidden,)
        yield "model.norm.weight", (self.hidden,)
        yield "lm_head.weight", (self.vocab, self.hidden)

    def config(self) -> dict[str, object]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "vocab_size": self.vocab,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            "dtype": "bfloat16",
        }


SMOLLM2 = Shape(hidden=576, ffn=1536, layers=30, heads=9, kv_heads=3, vocab=49152)


def llama(folder: Path, shape: Shape | None = None, shards: int = 5, seed: int = 0) -> Path:
    """A checkpoint of that shape; kept if it is there already."""
    shape = shape or Shape()
    if (folder / "config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    names = list(shape.tensors())
    total = sum(2 * torch.Size(s).numel() for _, s in names)
    held: dict[str, torch.Tensor] = {}
    weight_map: dict[str, str] = {}
    part, size = 1, 0
    for i, (name, s) in enumerate(names):
        mean = 1.0 if "norm" in name else 0.0
        held[name] = (mean + 0.02 * torch.randn(s, generator=generator)).to(torch.bfloat16)
        size += held[name].nbytes
        if size >= total / shards or i == len(names) - 1:
            file = f"model-{part:05d}-of-{shards:05d}.safetensors"
            weight_map.update(dict.fromkeys(held, file))
            save_file(held, folder / file, {"format": "pt"})
            held, size, part = {}, 0, part + 1
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    (folder / "config.json").write_text(json.dumps(shape.config(), indent=2))
    return folder


def lora(
    folder: Path,
    shape: Shape | None = None,
    r: int = 16,
    seed: int = 1,
    only: tuple[str, ...] = (),
    scale: float = 0.005,
) -> Path:
    """A PEFT LoRA of rank `r` on all linear layers (or on those whose name ends in one of `only`), fp32, alpha = 2 r.

    `scale` is the deviation of B: with A of 0.02 the delta is a few per cent of the weights, as after real training.
    """
    shape = shape or Shape()
    if (folder / "adapter_config.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    linears = {n: s for n, s in shape.linears().items() if not only or n.endswith(only)}
    for i in range(shape.layers):
        for name, (out, into) in linears.items():
            key = f"base_model.model.model.layers.{i}.{name}"
            tensors[f"{key}.lora_A.weight"] = 0.02 * torch.randn(r, into, generator=generator)
            tensors[f"{key}.lora_B.weight"] = scale * torch.randn(out, r, generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": r,
        "lora_alpha": 2 * r,
        "target_modules": [n.rpartition(".")[2] for n in linears],
        "base_model_name_or_path": None,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
