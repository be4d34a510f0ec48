"""GGUF files as llama.cpp's own library writes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

import adaptr

LAYER = "blk.0.ffn_up.weight"


def written(
    path: Path, tensors: Mapping[str, Tensor], said: Mapping[str, Any] | None = None, arch: str = "qwen2"
) -> Path:
    """A LoRA's file. `said`: values beside, texts, numbers of 32 bits and lists of them; None takes one away."""
    writer = gguf.GGUFWriter(path, arch)
    values = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 4.0, **(said or {})}
    for name, value in values.items():
        if isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        elif value is not None:
            writer.add_array(name, value)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor.numpy())
    return _ended(writer, path)


def quantised(path: Path, tensors: Mapping[str, Tensor], kind: str) -> Path:
    """A LoRA's file with tensors in blocks."""
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    for name, tensor in tensors.items():
        code = gguf.GGMLQuantizationType[kind]
        raw = gguf.quants.quantize(tensor.numpy().astype(np.float32), code)
        writer.add_tensor(name, raw, raw_dtype=code)
    return _ended(writer, path)


def pair(name: str = LAYER, out: int = 6, into: int = 8, r: int = 2) -> dict[str, Tensor]:
    """Both factors of a layer."""
    made = torch.Generator().manual_seed(len(name))
    shapes = {"a": (r, into), "b": (out, r)}
    return {f"{name}.lora_{side}": torch.randn(shape, generator=made) for side, shape in shapes.items()}


def loaded(folder: Path, tensors: Mapping[str, Tensor], arch: str = "qwen2", **said: Any) -> adaptr.Adapter:
    return adaptr.load(written(folder / "x.gguf", tensors, said, arch))


WIDTH, HEADS, VOCAB = 64, 4, 32
BLOCK = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm"}  # fmt: skip
NORMS = {"llama": {"ffn_norm": "post_attention_layernorm"},
         "gemma2": {"post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
                    "post_ffw_norm": "post_feedforward_layernorm"}}  # fmt: skip


def base(out: Path, kind: str = "F32", arch: str = "llama", more: tuple[str, ...] = ()) -> Path:
    """A model of one block as llama.cpp's library writes it; `more`: tensors that it has besides."""
    writer, made = _begun(out, arch), torch.Generator().manual_seed(0)
    for name in ("token_embd", "output_norm", *(f"blk.0.{one}" for one in (*BLOCK, *NORMS[arch])), *more):
        if "norm" in name:
            writer.add_tensor(f"{name}.weight", torch.randn(WIDTH, generator=made).numpy())
            continue
        count = VOCAB if name == "token_embd" else WIDTH // 2 if name[-1] in "kv" else WIDTH
        _add(writer, name, torch.randn(count, WIDTH, generator=made), kind)
    return _ended(writer, out)


#: Layers of a block of GPT-2: outputs and inputs.
GPT2 = {"attn_qkv": (3 * WIDTH, WIDTH), "attn_output": (WIDTH, WIDTH), "ffn_up": (4 * WIDTH, WIDTH),
        "ffn_down": (WIDTH, 4 * WIDTH)}  # fmt: skip


def gpt2(out: Path, kind: str = "F32") -> Path:
    """One of a model whose matrices transformers turns, with biases."""
    writer, made = _begun(out, "gpt2"), torch.Generator().manual_seed(0)
    for name, count in (("token_embd", VOCAB), ("position_embd", 64)):
        _add(writer, name, torch.randn(count, WIDTH, generator=made), kind)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        for leaf in ("weight", "bias"):
            writer.add_tensor(f"{name}.{leaf}", torch.randn(WIDTH, generator=made).numpy())
    for name, shape in GPT2.items():
        _add(writer, f"blk.0.{name}", torch.randn(shape, generator=made), kind)
        writer.add_tensor(f"blk.0.{name}.bias", torch.randn(shape[0], generator=made).numpy())
    return _ended(writer, out)


def _add(writer: gguf.GGUFWriter, name: str, values: Tensor, kind: str) -> None:
    code = gguf.GGMLQuantizationType[kind]
    writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values.numpy(), code), raw_dtype=code)


def _begun(out: Path, arch: str) -> gguf.GGUFWriter:
    """A file that says what its model is."""
    writer = gguf.GGUFWriter(out, arch)
    writer.add_type("model")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(4 * WIDTH if arch == "gpt2" else WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS if arch == "gpt2" else 2)
    writer.add_key_length(WIDTH // HEADS)
    writer.add_value_length(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_layer_norm_eps(1e-5)
    writer.add_vocab_size(VOCAB)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([b"<unk>", b"<s>", b"</s>", *(b"t%d" % i for i in range(VOCAB - 3))])
    return writer


def _ended(writer: gguf.GGUFWriter, out: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out
