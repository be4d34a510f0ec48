"""What ModelOpt writes is read as ModelOpt reads it, by its formulas; by the library itself where that is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from adaptr.checkpoint import open_checkpoint
from adaptr.errors import CheckpointError, Unsupported
from adaptr_packings.modelopt import ModelOpt
from packed_files import Q, checkpoint, require_same

Tensors = dict[str, torch.Tensor]
BF16, E4M3 = torch.bfloat16, torch.float8_e4m3fn
LEVELS = torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])


def config(algorithm: str = "NVFP4", **more: Any) -> dict[str, Any]:
    return {"quant_method": "modelopt", "quant_algo": algorithm, "ignore": ["lm_head"], **more}


def named(parts: Tensors) -> Tensors:
    return {f"{Q}.{leaf}": tensor for leaf, tensor in parts.items()}


def levels(raw: torch.Tensor) -> torch.Tensor:
    """E2M1 of bytes, the low nibble first."""
    codes = torch.stack([raw & 15, raw >> 4], -1).flatten(-2).long()
    return LEVELS[codes & 7] * torch.where(codes > 7, -1.0, 1.0)


def nvfp4(rows: int = 20, columns: int = 64) -> tuple[Tensors, torch.Tensor]:
    raw = torch.randint(0, 256, (rows, columns // 2), dtype=torch.uint8)
    scale, overall = torch.rand(rows, columns // 16).mul(400).add(1).to(E4M3), torch.tensor(3.1e-4)
    parts = {"weight": raw, "weight_scale": scale, "weight_scale_2": overall, "input_scale": torch.tensor(0.5)}
    whole = (levels(raw) + 0.0).unflatten(1, (-1, 16)) * (scale.float() * overall).unsqueeze(-1)
    return parts, whole.flatten(1).to(BF16)


def fp8(scale: torch.Tensor) -> tuple[Tensors, torch.Tensor]:
    codes = torch.randn(20, 33).mul(100).to(E4M3)
    each = scale.to(BF16) if scale.numel() == 1 else scale.to(BF16).reshape(-1, 1)
    return {"weight": codes, "weight_scale": scale, "input_scale": torch.tensor(0.5)}, codes.to(BF16) * each


def mxfp8() -> tuple[Tensors, torch.Tensor]:
    codes, scale = torch.randn(20, 64).mul(100).to(E4M3), torch.randint(100, 130, (20, 2), dtype=torch.uint8)
    whole = codes.float().unflatten(1, (-1, 32)) * torch.exp2(scale.float() - 127).unsqueeze(-1)
    return {"weight": codes, "weight_scale": scale}, whole.flatten(1).to(BF16)


def mxfp4() -> tuple[Tensors, torch.Tensor]:
    raw = torch.randint(0, 256, (20, 32), dtype=torch.uint8)
    scale = torch.randint(100, 130, (20, 2), dtype=torch.uint8)
    whole = levels(raw).unflatten(1, (-1, 32)) * torch.exp2(scale.float() - 127).unsqueeze(-1)
    return {"weight": raw, "weight_scale": scale}, whole.flatten(1).to(BF16)


def test_every_layout(tmp_path: Path) -> None:
    for algorithm, (parts, expected) in {
        "NVFP4": nvfp4(),
        "FP8": fp8(torch.tensor(0.0123)),
        "FP8_PER_CHANNEL_PER_TOKEN": fp8(torch.rand(20)),
        "MXFP8": mxfp8(),
        "W4A8_MXFP4_FP8": mxfp4(),
    }.items():
        folder = checkpoint(tmp_path / algorithm, named(parts), config(algorithm))
        require_same(folder, {f"{Q}.weight": expected}, one_to_one=algorithm != "NVFP4")


def test_the_library_says_the_same(tmp_path: Path) -> None:
    qtensor = pytest.importorskip("modelopt.torch.quantization.qtensor", reason="ModelOpt is not installed")
    weight = (torch.randn(24, 64) * 0.05).to(BF16)
    packed, scale, overall = qtensor.NVFP4QTensor.quantize(weight.clone(), 16)
    expected = packed.dequantize(BF16, scale=scale, double_scale=overall, block_sizes={-1: 16})
    parts = {"weight": packed._quantized_data, "weight_scale": scale, "weight_scale_2": overall}
    folder = checkpoint(tmp_path / "nvfp4", named(parts), config())
    require_same(folder, {f"{Q}.weight": expected}, one_to_one=False)
    eight, scale = qtensor.FP8QTensor.quantize(weight)
    expected = eight.dequantize(BF16, scale=scale)
    parts = {"weight": eight._quantized_data, "weight_scale": scale.float()}
    require_same(checkpoint(tmp_path / "fp8", named(parts), config("FP8")), {f"{Q}.weight": expected})


@pytest.mark.parametrize(
    ("parts", "said", "kind", "words"),
    [
        ({}, config("NVFP4_AWQ"), Unsupported, "NVFP4_AWQ"),
        ({}, config("MIXED_PRECISION", quantized_layers={Q: {"quant_algo": "W8A16"}}), Unsupported, "W8A16"),
        ({"pre_quant_scale": torch.ones(64)}, config(), Unsupported, "pre_quant_scale"),
        ({"weight_scale": torch.ones(20, 4)}, config(), CheckpointError, "weight_scale"),
        ({"weight_scale": torch.ones(20, 5).to(E4M3)}, config(), CheckpointError, "columns"),
        ({"weight_scale_2": torch.ones(2)}, config(), CheckpointError, "weight_scale_2"),
        ({"weight": torch.ones(2, 3, 4, dtype=torch.uint8)}, config(), Unsupported, "a matrix"),
        ({"weight": torch.ones(20, 64)}, config(), CheckpointError, "F8_E4M3"),
    ],
)
def test_what_is_not_known_is_named(
    tmp_path: Path, parts: Tensors, said: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        open_checkpoint(checkpoint(tmp_path, named({**nvfp4()[0], **parts}), said))


def test_scales_without_codes(tmp_path: Path) -> None:
    parts = {leaf: tensor for leaf, tensor in nvfp4()[0].items() if leaf != "weight"}
    with pytest.raises(CheckpointError, match="`weight` is not there"):
        open_checkpoint(checkpoint(tmp_path, named(parts), config()))


def test_modules_that_become_floats_are_ignored_from_then_on() -> None:
    said = config("MIXED_PRECISION", quantized_layers={Q: {"quant_algo": "FP8"}, "b": {"quant_algo": "FP8"}})
    found = ModelOpt().floated({**said, "ignore": ["lm_head", "*embed*"]}, {Q, "lm_head", "model.embed_tokens"})
    assert found["ignore"] == ["lm_head", "*embed*", Q]
    assert found["quantized_layers"].keys() == {"b"}
