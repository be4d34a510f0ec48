"""What compressed-tensors itself packs is read bit for bit in every layout, and written again to the same bytes.

Skipped where the library is not installed: `pip install --no-deps compressed-tensors loguru`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from packed_files import Q, checkpoint, require_same

pytest.importorskip("compressed_tensors", reason="compressed-tensors is not installed")

from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams

Said = dict[str, Any]
ACTIVATIONS = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True, "symmetric": True}
BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32
GROUPS = {"strategy": "group", "group_size": 32}
BLOCKS = {"strategy": "block", "block_structure": [16, 32]}
EXPONENTS = {"scale_dtype": "torch.uint8"}


def _int(bits: int, **how: Any) -> Said:
    return {"num_bits": bits, "type": "int", **how}


def _float(bits: int, **how: Any) -> Said:
    return {"num_bits": bits, "type": "float", **how}


#: Format, arguments of the weights, shape, dtype of scales.
LAYOUTS: list[tuple[str, Said, tuple[int, int], torch.dtype]] = [
    *(("pack-quantized", _int(n, symmetric=s, **GROUPS), (75, 96), BF16) for n in range(2, 9) for s in (True, False)),
    *(
        ("pack-quantized", _int(n, symmetric=s, strategy="channel"), (45, 70), BF16)
        for n in (1, 3, 4, 8)
        for s in (True, False)
    ),
    ("pack-quantized", _int(4, strategy="tensor"), (20, 36), BF16),
    ("pack-quantized", _int(4, **GROUPS), (9, 64), F16),
    ("pack-quantized", _int(4, group_size=128), (9, 256), F32),
    ("int-quantized", _int(8, strategy="channel"), (33, 50), BF16),
    ("int-quantized", _int(8, strategy="channel", symmetric=False), (33, 50), BF16),
    ("int-quantized", _int(8, strategy="tensor", symmetric=False), (33, 50), BF16),
    ("int-quantized", _int(8, **GROUPS), (33, 96), BF16),
    ("int-quantized", _int(8, **BLOCKS), (33, 50), BF16),
    ("naive-quantized", _int(4, strategy="channel"), (33, 50), BF16),
    *(
        (name, _float(8, **how), (33, 64), dtype)
        for name in ("float-quantized", "naive-quantized")
        for dtype in (BF16, F32)
        for how in ({"strategy": "tensor"}, {"strategy": "channel"}, BLOCKS, GROUPS)
    ),
    ("float-quantized", _float(8, **BLOCKS), (33, 50), BF16),
    ("nvfp4-pack-quantized", _float(4, strategy="tensor_group", group_size=16), (21, 64), BF16),
    ("mxfp4-pack-quantized", _float(4, **GROUPS, **EXPONENTS), (21, 64), BF16),
    ("mxfp8-quantized", _float(8, **GROUPS, **EXPONENTS), (21, 64), BF16),
]


def packed(layout: str, args: Said, shape: tuple[int, int], dtype: torch.dtype) -> tuple[Said, torch.Tensor, Said]:
    """The tensors of a module, its weight as the library decodes it, and its group in a configuration."""
    said = QuantizationArgs(**args)
    weight = (torch.randn(shape) * 0.05).to(dtype)
    scheme = QuantizationScheme(targets=["Linear"], weights=said, format=layout)
    lowest, highest = _extremes(weight, said)
    overall = 448 * 6 / weight.float().abs().max().reshape(1) if layout.startswith("nv") else None
    scale, zero = calculate_qparams(lowest, highest, said, global_scale=overall)
    state = {"weight": weight, "weight_scale": scale.to(dtype) if overall is None else scale, "weight_zero_point": zero}
    state |= {"weight_global_scale": overall} if overall is not None else {}
    compressor = BaseCompressor.get_value_from_registry(layout)
    state = compressor.compress(state, scheme)
    return state, compressor.decompress(state, scheme)["weight"], {"targets": ["Linear"], "weights": args}


def _extremes(weight: torch.Tensor, said: QuantizationArgs) -> tuple[torch.Tensor, torch.Tensor]:
    rows, columns = weight.shape
    sizes = {"tensor": (rows, columns), "channel": (1, columns), "block": tuple(said.block_structure or ())}
    down, across = sizes.get(str(said.strategy), (1, said.group_size or columns))
    padded = torch.nn.functional.pad(weight, (0, -columns % across, 0, -rows % down))
    tiles = padded.unflatten(1, (-1, across)).unflatten(0, (-1, down))
    return tiles.amin((1, 3)), tiles.amax((1, 3))


def module(state: Said, path: str = Q) -> dict[str, torch.Tensor]:
    return {f"{path}.{leaf}": tensor.data for leaf, tensor in state.items()}


def config(layout: str, group: Said, **more: Any) -> Said:
    groups = {"group_0": group}
    return {"quant_method": "compressed-tensors", "format": layout, "config_groups": groups, "ignore": [], **more}


@pytest.mark.parametrize(("layout", "args", "shape", "dtype"), LAYOUTS)
def test_every_layout(tmp_path: Path, layout: str, args: Said, shape: tuple[int, int], dtype: torch.dtype) -> None:
    state, weight, group = packed(layout, args, shape, dtype)
    require_same(checkpoint(tmp_path, module(state), config(layout, group)), {f"{Q}.weight": weight})


def test_groups_of_several_formats(tmp_path: Path) -> None:
    """Exact names before expressions before classes, each group in its own format."""
    wide = {"num_bits": 8, "type": "float", "strategy": "channel"}
    narrow = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}
    tiny = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
    tensors, expected, groups = {}, {}, {}
    for path, targets, layout, args in (
        ("model.layers.0.mlp.up_proj", ["Linear"], "float-quantized", wide),
        ("model.layers.0.self_attn.q_proj", [r"re:.*self_attn\.[qk]_proj"], "pack-quantized", narrow),
        ("model.layers.0.self_attn.k_proj", ["model.layers.0.self_attn.k_proj"], "nvfp4-pack-quantized", tiny),
    ):
        state, weight, group = packed(layout, args, (24, 64), torch.bfloat16)
        tensors |= module(state, path)
        expected[f"{path}.weight"] = weight
        groups[path] = {**group, "targets": targets, "format": layout}
    tensors["lm_head.weight"] = torch.zeros(4, 4, dtype=torch.bfloat16)
    said = {"quant_method": "compressed-tensors", "format": "mixed-precision", "config_groups": groups}
    require_same(checkpoint(tmp_path, tensors, {**said, "ignore": ["re:.*lm_head"]}), expected)
