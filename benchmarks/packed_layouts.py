"""A model in floats, written again in the layouts of packed checkpoints, as their libraries do it or by their rules.

bitsandbytes' by transformers; FP8 in tiles as DeepSeek-V3 has them, GPTQ's integers of four bits (rounded to nearest,
nothing is calibrated) and GGUF's Q8_0 by the few lines that they are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]

#: Of FP8's tiles, and of GPTQ's groups: SmolLM2's rows have 576 columns.
TILE, GROUP = 128, 64
#: Codes of four bits in an int32.
SHIFTS = torch.arange(0, 32, 4, dtype=torch.int32)
E4M3 = torch.float8_e4m3fn


def bf16(source: Path, out: Path) -> None:
    """Everything else is made of this one."""
    _save(source, out, {name: tensor.bfloat16() for name, tensor in _read(source).items()}, "bfloat16", None)


def nf4(source: Path, out: Path) -> None:
    """With double quantisation, as QLoRA has it."""
    quantised = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    _by_bitsandbytes(source, out, {**quantised, "bnb_4bit_compute_dtype": torch.bfloat16})


def int8(source: Path, out: Path) -> None:
    _by_bitsandbytes(source, out, {"load_in_8bit": True})


def fp8(source: Path, out: Path) -> None:
    said = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [TILE, TILE]}
    _save(source, out, _each(source, _tiles), "bfloat16", said)


def gptq(source: Path, out: Path) -> None:
    said = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": True, "desc_act": False}
    _save(source, out, _each(source, _groups), "float16", {**said, "checkpoint_format": "gptq", "lm_head": False})


MAKERS: Mapping[str, Callable[[Path, Path], None]] = {
    "nf4": nf4, "int8": int8, "fp8": fp8, "gptq": gptq
}  # fmt: skip


def made(scheme: str, source: Path, place: Path) -> Path:
    """The folder with `source` in a scheme, made where it is not there."""
    out = place / scheme
    if not (out / "config.json").exists():
        out.mkdir(parents=True, exist_ok=True)
        MAKERS[scheme](source, out)
    return out


def _by_bitsandbytes(source: Path, out: Path, said: dict[str, Any]) -> None:
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    config = BitsAndBytesConfig(**said)
    model = AutoModelForCausalLM.from_pretrained(source, quantization_config=config, dtype=torch.bfloat16)
    model.save_pretrained(out)


def _each(source: Path, packed: Callable[[torch.Tensor], Tensors]) -> Tensors:
    """All tensors, with the linear layers of the blocks packed."""
    found: Tensors = {}
    for name, tensor in _read(source).items():
        path = name.removesuffix(".weight")
        if ".layers." not in name or tensor.ndim != 2:
            found[name] = tensor
        else:
            found |= {f"{path}.{leaf}": part for leaf, part in packed(tensor.float()).items()}
    return found


def _tiles(W: torch.Tensor) -> Tensors:
    rows, columns = (math.ceil(size / TILE) for size in W.shape)
    short = (0, columns * TILE - W.shape[1], 0, rows * TILE - W.shape[0])
    wide = torch.nn.functional.pad(W, short).view(rows, TILE, columns, TILE)
    scale = 448 / wide.abs().amax((1, 3))
    spread = scale.repeat_interleave(TILE, 0).repeat_interleave(TILE, 1)[: W.shape[0], : W.shape[1]]
    return {"weight": (W * spread).clamp(-448, 448).to(E4M3), "weight_scale_inv": 1 / scale}


def _groups(W: torch.Tensor) -> Tensors:
    """Symmetric: zero points are 8, stored less one."""
    out, columns = W.shape
    scale = (2 * W.view(out, -1, GROUP).abs().amax(-1) / 15).half()
    codes = torch.round(W / scale.float().repeat_interleave(GROUP, 1)).add(8).clamp(0, 15).int()
    return {
        "qweight": _words(codes.T.reshape(-1, 8, out).transpose(1, 2)),
        "qzeros": _words(torch.full((columns // GROUP, out // 8, 8), 7, dtype=torch.int32)),
        "scales": scale.T,
        "g_idx": torch.arange(columns, dtype=torch.int32) // GROUP,
    }


def _words(codes: torch.Tensor) -> torch.Tensor:
    """Eight codes (..., 8) to an int32, the first lowest."""
    return (codes << SHIFTS).sum(-1, dtype=torch.int32)


def _read(folder: Path) -> Tensors:
    return {name: part for file in sorted(folder.glob("*.safetensors")) for name, part in load_file(file).items()}


def _save(source: Path, out: Path, tensors: Tensors, dtype: str, said: Mapping[str, Any] | None) -> None:
    if dtype == "float16":
        tensors = {name: part.half() if part.dtype == torch.bfloat16 else part for name, part in tensors.items()}
    every = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(every, out / "model.safetensors", {"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config |= {"dtype": dtype, **({"quantization_config": dict(said)} if said else {})}
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    for file in source.glob("*token*"):
        (out / file.name).write_bytes(file.read_bytes())
