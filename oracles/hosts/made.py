"""Hosts of every packing: a small model as each library packs it, and the weights that its numbers stand for.

A maker gets a model and a folder. It writes a checkpoint there and returns the weights by module and how transformers
is asked for it; where there is no checkpoint to write, it returns how the packed model is made.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from by_compressed_tensors import compressed
from by_gptqmodel import awq, gptq
from torch import Tensor
from writing import Made, Maker, linears, loading, written

# ---------------------------------------------------------------- bitsandbytes


def bitsandbytes(**said: Any) -> Maker:
    def make(model: Any, folder: Path) -> Made:
        from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant
        from transformers import BitsAndBytesConfig

        model.save_pretrained(folder)
        load = loading(folder, quantization_config=BitsAndBytesConfig(**said), dtype=torch.float32)

        def weight(module: Any) -> Tensor:
            W = module.weight
            state = getattr(W, "quant_state", None)
            return int8_vectorwise_dequant(W.data, W.SCB) if state is None else dequantize_4bit(W.data, state)

        return {path: weight(m) for path, m in linears(load()).items()}, load

    return make


# ---------------------------------------------------------------- torchao, HQQ


def torchao(config: str, **said: Any) -> Maker:
    def make(model: Any, folder: Path) -> Made:
        import torchao.quantization as q
        from torchao.quantization.granularity import PerGroup
        from transformers import TorchAoConfig

        if "group" in said:
            said["granularity"] = PerGroup(said.pop("group"))
        model.bfloat16().save_pretrained(folder)
        load = loading(folder, quantization_config=TorchAoConfig(getattr(q, config)(**said)), dtype=torch.bfloat16)
        return {path: m.weight.dequantize() for path, m in linears(load()).items()}, load

    return make


def hqq(model: Any, folder: Path) -> Made:
    """Packed in memory: transformers loads no HQQ."""
    weights = {path: m.dequantize() for path, m in _hqq(model).named_modules() if hasattr(m, "W_q")}
    return weights, lambda: _hqq(model)


def _hqq(model: Any) -> Any:
    from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

    made = copy.deepcopy(model).float()
    config = BaseQuantizeConfig(nbits=4, group_size=64, axis=1)
    for path, module in linears(made).items():
        owner, _, name = path.rpartition(".")
        packed = HQQLinear(module, copy.deepcopy(config), compute_dtype=torch.float32, device="cpu")
        setattr(made.get_submodule(owner), name, packed)
    return made.eval()


def hqq_loaded(model: Any, folder: Path) -> Made:
    """As transformers loads a checkpoint of HQQ: with random weights, and no error."""
    packed = _hqq(model)
    tensors, weights = {}, {}
    for path, module in packed.named_modules():
        if hasattr(module, "W_q"):
            state = {
                f"{path}.{k}": torch.as_tensor(v)
                for k, v in module.state_dict().items()
                if not isinstance(v, str | tuple | torch.dtype)
            }
            tensors |= {k: t for k, t in state.items() if isinstance(t, Tensor)}
            weights[path] = module.dequantize()
    said = {"weight_quant_params": {"nbits": 4, "group_size": 64, "channel_wise": True, "round_zero": True,
            "optimize": True, "axis": 1, "view_as_float": False}, "offload_meta": False, "scale_quant_params": None,
            "zero_quant_params": None}  # fmt: skip
    written(model, folder, tensors, {"quant_method": "hqq", "quant_config": said, "skip_modules": ["lm_head"]})
    return weights, loading(folder)


# ---------------------------------------------------------------- fp8


def fp8(model: Any, folder: Path) -> Made:
    """e4m3 in blocks of 128, whose scales multiply; without a GPU transformers loads it as bf16."""
    tensors, weights = {}, {}
    for path, module in linears(model).items():
        W = module.weight.detach().float()
        parts = W.view(len(W) // 128, 128, -1, 128)
        scale = parts.abs().amax((1, 3), keepdim=True) / 448
        codes = (parts / scale).to(torch.float8_e4m3fn)
        tensors |= {f"{path}.weight": codes.view(W.shape), f"{path}.weight_scale_inv": scale[:, 0, :, 0]}
        weights[path] = (codes.float() * scale).view(W.shape).bfloat16()
    said = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    written(model.bfloat16(), folder, tensors, said)
    return weights, loading(folder)


def unpacked(model: Any, folder: Path) -> Made:
    """What a method can't do at all, it can't do here."""
    model.save_pretrained(folder)
    return {path: m.weight.detach().clone() for path, m in linears(model).items()}, loading(folder)


#: The name of the host that the others are held against.
PLAIN = "unpacked"
FOUR = {"load_in_4bit": True, "bnb_4bit_compute_dtype": torch.float32}
MAKERS: dict[str, Maker] = {
    PLAIN: unpacked,
    "bitsandbytes nf4": bitsandbytes(**FOUR, bnb_4bit_quant_type="nf4"),
    "bitsandbytes nf4, double": bitsandbytes(**FOUR, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True),
    "bitsandbytes fp4": bitsandbytes(**FOUR, bnb_4bit_quant_type="fp4"),
    "bitsandbytes int8": bitsandbytes(load_in_8bit=True),
    "torchao int8": torchao("Int8WeightOnlyConfig", version=2),
    "torchao float8": torchao("Float8WeightOnlyConfig"),
    "torchao int4": torchao("IntxWeightOnlyConfig", weight_dtype=torch.int4, group=32),
    "compressed-tensors int4": compressed("W4A16"),
    "compressed-tensors int4, asymmetric": compressed("W4A16_ASYM", dequantize=True),
    "compressed-tensors int8": compressed("W8A16"),
    "compressed-tensors int8, activations": compressed("W8A8"),
    "compressed-tensors fp8, activations": compressed("FP8_DYNAMIC"),
    "compressed-tensors fp8, dequantised": compressed("FP8_DYNAMIC", dequantize=True),
    "compressed-tensors fp8 blocks, activations": compressed("FP8_BLOCK"),
    "compressed-tensors nvfp4": compressed("NVFP4A16"),
    "compressed-tensors mxfp4": compressed("MXFP4A16"),
    "GPTQ int4": gptq(4, 64, backend="gptq_torch"),
    "GPTQ int4, act-order": gptq(4, 32, order=True, backend="gptq_torch"),
    "GPTQ int8": gptq(8, 64, backend="gptq_torch"),
    "GPTQ int4, ATen kernel": gptq(4, 64, backend="gptq_torch_aten"),
    "AWQ": awq(backend="torch_awq"),
    "HQQ": hqq,
    "HQQ by transformers": hqq_loaded,
    "fp8 blocks": fp8,
}
