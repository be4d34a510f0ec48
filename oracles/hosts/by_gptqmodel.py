"""Hosts of GPTQ and AWQ as GPTQModel packs them."""

from __future__ import annotations

import copy
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from writing import Made, Maker, copied, linears, loading, written


def rounded(W: Tensor, bits: int, group: int) -> tuple[Tensor, Tensor]:
    """Scales and zero points (out, groups) of the nearest codes, asymmetric."""
    parts, most = W.float().view(len(W), -1, group), 2**bits - 1
    low, high = parts.amin(-1).clamp_max(0), parts.amax(-1).clamp_min(0)
    scale = ((high - low) / most).clamp_min(1e-6).half().float()
    return scale, torch.round(-low / scale).clamp(0, most)


def decoded(W: Tensor, scale: Tensor, zero: Tensor, bits: int, groups: Tensor) -> Tensor:
    """What the nearest codes stand for; `groups` (in), the group of each column."""
    s, z = scale[:, groups], zero[:, groups]
    return (torch.round(W.float() / s + z).clamp(0, 2**bits - 1) - z) * s


def gptq(bits: int, group: int, order: bool = False, **options: Any) -> Maker:
    """Round to nearest, in the format with z - 1. `order`: columns of a group lie apart. `options`: of GPTQConfig."""

    def make(model: Any, folder: Path) -> Made:
        from gptqmodel.nn_modules.qlinear.torch import TorchLinear
        from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module
        from transformers import GPTQConfig

        model = copy.deepcopy(model).half()
        tensors, weights = {}, {}
        for path, module in linears(model).items():
            W = module.weight.detach().float()
            into = W.shape[1]
            shape = {
                "in_features": into,
                "out_features": len(W),
                "bias": module.bias is not None,
                "register_buffers": True,
            }
            packed = TorchLinear(bits=bits, group_size=group, sym=False, desc_act=order, **shape)
            groups = torch.arange(into) // group
            turned = torch.randperm(into, generator=torch.Generator().manual_seed(5)) if order else torch.arange(into)
            scale, zero = rounded(W[:, turned], bits, group)
            groups = torch.empty_like(groups).index_put((turned,), groups)
            packed.pack_original(module.float(), scale, zero, groups.int())
            convert_gptq_v2_to_v1_format_module(packed, types.SimpleNamespace(bits=bits, pack_dtype=torch.int32))
            weights[path] = decoded(W, scale, zero, bits, groups)
            tensors |= {f"{path}.{n}": getattr(packed, n) for n in ("qweight", "qzeros", "scales", "g_idx")}
        said = {"quant_method": "gptq", "bits": bits, "group_size": group, "sym": False, "desc_act": order}
        written(
            model.half(),
            folder,
            tensors,
            {**said, "checkpoint_format": "gptq", "lm_head": False, "pack_dtype": "int32"},
        )
        return weights, copied(loading(folder, quantization_config=GPTQConfig(bits=bits, **options)))

    return make


def awq(**options: Any) -> Maker:
    """Round to nearest. `options`: of AwqConfig."""

    def make(model: Any, folder: Path) -> Made:
        from gptqmodel.nn_modules.qlinear.torch_awq import AwqTorchLinear
        from transformers import AwqConfig

        model, group = copy.deepcopy(model).half(), 32
        tensors, weights = {}, {}
        for path, module in linears(model).items():
            W = module.weight.detach().float()
            shape = {
                "in_features": W.shape[1],
                "out_features": len(W),
                "bias": module.bias is not None,
                "register_buffers": True,
            }
            packed = AwqTorchLinear(bits=4, group_size=group, sym=False, desc_act=False, **shape)
            scale, zero = rounded(W, 4, group)
            packed.pack(module.float(), scale, zero)
            weights[path] = decoded(W, scale, zero, 4, torch.arange(W.shape[1]) // group)
            tensors |= {f"{path}.{n}": getattr(packed, n) for n in ("qweight", "qzeros", "scales")}
        said = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}
        written(model.half(), folder, tensors, {**said, "modules_to_not_convert": None})
        more = {"quantization_config": AwqConfig(**options)} if options else {}
        return weights, copied(loading(folder, **more))

    return make
