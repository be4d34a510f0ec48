"""Packed weights written number by number, as the layouts are described; not by the code that is tested."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

PATH = "model.layers.0.self_attn.q_proj"


@dataclass(frozen=True)
class Made:
    """One packed weight: its parts, the configuration, and the fp16 or bf16 values that they stand for."""

    tensors: Mapping[str, Tensor]
    said: Mapping[str, Any]
    values: Tensor

    def saved(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({f"{PATH}.{role}": t.contiguous() for role, t in self.tensors.items()}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": dict(self.said)}))
        return folder


def words(codes: Sequence[int], bits: int) -> list[int]:
    """A stream of codes as int32, the first in the lowest bits."""
    stream = sum(code << bits * i for i, code in enumerate(codes))
    found = [stream >> 32 * i & 0xFFFFFFFF for i in range(-(-len(codes) * bits // 32))]
    return [word - (1 << 32) if word >> 31 else word for word in found]


def codes(shape: tuple[int, int], most: int, seed: int) -> Tensor:
    return torch.randint(0, most + 1, shape, generator=torch.Generator().manual_seed(seed))


def gptq(shape: tuple[int, int], bits: int, group: int, form: str, ordered: bool, seed: int = 0) -> Made:
    out, into = shape
    groups, most = -(-into // group), (1 << bits) - 1
    q, z = codes((into, out), most, seed), codes((groups, out), most, seed + 1)
    scale = torch.rand(groups, out, generator=torch.Generator().manual_seed(seed + 2)).half() + 0.01
    at = torch.arange(into) // group
    at = at if ordered else at[torch.randperm(into, generator=torch.Generator().manual_seed(seed + 3))]
    stored = [words(row, bits) for row in z.tolist()]
    if form == "gptq" and bits == 3:
        stored = [words([(one - 1) % 8 for one in row], bits) for row in z.tolist()]
    elif form == "gptq":
        ones = sum(1 << at for at in range(0, 32, bits))
        stored = [[(word - ones + (1 << 31)) % (1 << 32) - (1 << 31) for word in row] for row in stored]
    tensors = {
        "qweight": torch.tensor([words(column, bits) for column in q.T.tolist()], dtype=torch.int32).T,
        "qzeros": torch.tensor(stored, dtype=torch.int32),
        "scales": scale, "g_idx": at.int(),
    }  # fmt: skip
    said = {"quant_method": "gptq", "bits": bits, "group_size": group, "checkpoint_format": form}
    return Made(tensors, said, (scale[at] * (q - z[at]).half()).T)


def awq(shape: tuple[int, int], group: int, seed: int = 0) -> Made:
    out, into = shape
    q, z = codes((into, out), 15, seed), codes((into // group, out), 15, seed + 1)
    scale = torch.rand(into // group, out, generator=torch.Generator().manual_seed(seed + 2)).half() + 0.01

    def laid(matrix: Tensor) -> Tensor:
        rows = [[row[i : i + 8] for i in range(0, out, 8)] for row in matrix.tolist()]
        return torch.tensor(
            [[words([eight[j] for j in (0, 2, 4, 6, 1, 3, 5, 7)], 4)[0] for eight in row] for row in rows],
            dtype=torch.int32,
        )

    at = torch.arange(into) // group
    said = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}
    tensors = {"qweight": laid(q), "qzeros": laid(z), "scales": scale}
    return Made(tensors, said, (scale[at] * (q - z[at]).half()).T)


#: Of each layout: bits, rows in one.
HQQ = {"8bit_u8": (8, 1), "4bit_u8": (4, 2), "2bit_u8": (2, 4), "1bit_u8": (1, 8), "3bit_32": (3, 10)}


def hqq(shape: tuple[int, int], layout: str, group: int, axis: int, seed: int = 0) -> Made:
    bits, many = HQQ[layout]
    count = shape[0] * shape[1] // group
    q = codes((count, group) if axis else (group, count), (1 << bits) - 1, seed)
    each = (count, 1) if axis else (1, count)
    made = torch.Generator().manual_seed(seed + 1)
    scale = torch.rand(each, generator=made).half() + 0.01
    zero = (torch.rand(each, generator=made) * ((1 << bits) - 1)).half()
    height = -(-q.shape[0] // many)
    rows = [*q.tolist(), *[[0] * q.shape[1]] * (height * many - q.shape[0])]
    packed = [
        [sum(rows[k * height + i][j] << bits * (many - 1 - k) for k in range(many)) for j in range(q.shape[1])]
        for i in range(height)
    ]
    told = {"shape": torch.tensor(shape), "nbits": bits, "group_size": group, "axis": axis, "packing": layout,
            "compute_dtype": "torch.float16", "channel_wise": True, "quant_scale": False,
            "quant_zero": False}  # fmt: skip
    tensors = {"W_q": torch.tensor(packed, dtype=torch.int32 if many == 10 else torch.uint8), "scale": scale,
               "zero": zero, **{name: _told(value) for name, value in told.items()}}  # fmt: skip
    return Made(tensors, {"quant_method": "hqq"}, ((q.half() - zero) * scale).reshape(shape))


def _told(value: Tensor | bool | int | str) -> Tensor:
    if isinstance(value, str):
        return torch.tensor(list(value.encode()), dtype=torch.uint8)
    if isinstance(value, bool):
        return torch.tensor(int(value), dtype=torch.uint8)
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.int32)
