"""GPT-2 packed by bitsandbytes, whose library keeps as (out, in) what the model has as (in, out)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import adaptr
from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.reading import whole
from adaptr.testing import shaken

NAME = "transformer.h.0.attn.c_attn"


def packed(kind: str, folder: Path) -> tuple[Any, Any, Path]:
    """The floats, what transformers makes of them, and the folder that it saved."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=40, n_positions=16, n_embd=64, n_layer=1, n_head=4)
    model = GPT2LMHeadModel(config).eval()
    model.save_pretrained(folder / "floats")
    said = BitsAndBytesConfig(
        load_in_4bit=kind == "nf4",
        load_in_8bit=kind == "int8",
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
    )
    made = AutoModelForCausalLM.from_pretrained(folder / "floats", quantization_config=said, dtype=torch.float32)
    made.save_pretrained(folder / "base")
    return model, made, folder / "base"


def decoded(layer: Any, kind: str) -> torch.Tensor:
    """A weight (out, in) by the library."""
    from bitsandbytes.functional import dequantize_4bit

    if kind == "nf4":
        return dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    return layer.weight.CB.float() * layer.weight.SCB[:, None] / 127


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_merge_into_it_is_turned_and_undone(kind: str, tmp_path: Path) -> None:
    model, made, base = packed(kind, tmp_path)
    adapter = shaken(adaptr.create(model, "lora", ["attn.qkv", "mlp.down"], r=2), by=0.3)
    assert adapter.targets[NAME].kind == "linear_t"
    W = decoded(made.get_submodule(NAME), kind)
    torch.testing.assert_close(whole(open_checkpoint(base).tensors[f"{NAME}.weight"]).float(), W.T, atol=1e-6, rtol=0)
    merged = tmp_path / "merged"
    adaptr.merge(base, adapter, merged)
    found = load_file(merged / "model.safetensors")[f"{NAME}.weight"]
    torch.testing.assert_close(found.float(), (W + adapter[NAME].dense()).T, atol=1e-5, rtol=0)
    assert NAME in json.loads((merged / "config.json").read_text())["quantization_config"]["llm_int8_skip_modules"]
    adaptr.verify(merged)
    adaptr.unmerge(merged, tmp_path / "back")
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_it_is_packed_again_and_undone(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model, made, base = packed(kind, tmp_path)
    adapter = shaken(adaptr.create(model, "lora", ["attn.qkv"], r=2), by=0.02)
    merged = tmp_path / "merged"
    adaptr.merge(base, adapter, merged, packed=True)
    W = decoded(made.get_submodule(NAME), kind) + adapter[NAME].dense()
    found = decoded(AutoModelForCausalLM.from_pretrained(merged).get_submodule(NAME), kind)
    assert float((found - W).norm() / W.norm()) < 0.3
    adaptr.verify(merged)
    adaptr.unmerge(merged, tmp_path / "back")
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
