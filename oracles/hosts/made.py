"""Hosts of every packing: a small model as each library packs it, and the weights that its numbers stand for.

A maker gets a model and a folder. It writes a checkpoint there and returns the weights by module and how transformers
is asked for it; where there is no checkpoint to write, it returns how the packed model is made.
"""

from __future__ import annotations

import copy
import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

#: The weights by the path of their module, and what makes the host anew.
Made = tuple[dict[str, Tensor], Callable[[], Any]]
Maker = Callable[[Any, Path], Made]


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    return {path: m for path, m in model.named_modules() if isinstance(m, nn.Linear) and path != "lm_head"}


def loading(folder: Path, **options: Any) -> Callable[[], Any]:
    return lambda: AutoModelForCausalLM.from_pretrained(folder, **options).eval()


def copied(load: Callable[[], Any]) -> Callable[[], Any]:
    """The same of a model that is loaded once, where loading takes seconds."""
    model = load()
    return lambda: copy.deepcopy(model)


def written(model: Any, folder: Path, tensors: dict[str, Tensor], said: dict[str, Any]) -> None:
    """A checkpoint of the model with `tensors` in the place of its linear layers' weights."""
    own = {f"{path}.weight" for path in linears(model)}
    rest = {k: t for k, t in model.state_dict().items() if k not in own and k not in tensors}
    save_file({k: t.contiguous() for k, t in (rest | tensors).items()}, folder / "model.safetensors", {"format": "pt"})
    config = {**json.loads(model.config.to_json_string(use_diff=True)), "quantization_config": said}
    config |= {"architectures": [type(model).__name__], "dtype": str(model.dtype).removeprefix("torch.")}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")


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


# ---------------------------------------------------------------- compressed-tensors


def compressed(preset: str, **options: Any) -> Maker:
    """By its own arithmetic, scales from the largest values. `options`: what transformers is told besides."""

    def make(model: Any, folder: Path) -> Made:
        from compressed_tensors.compressors import BaseCompressor, ModelCompressor
        from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config, preset_name_to_scheme
        from transformers import CompressedTensorsConfig

        model = copy.deepcopy(model).bfloat16()
        scheme = preset_name_to_scheme(preset, ["Linear"])
        config = QuantizationConfig(config_groups={"group_0": scheme}, ignore=["lm_head"])
        apply_quantization_config(model, config)
        for module in linears(model).values():
            _scaled(module)
        compressor = ModelCompressor(quantization_config=config)
        compressor.compress_model(model)
        scheme = next(iter(linears(model).values())).quantization_scheme
        tensors = {f"{path}.{n}": p.detach() for path, m in linears(model).items() for n, p in m.named_parameters()}
        tensors = {k: t for k, t in tensors.items() if not k.endswith(".bias")}
        said = config.model_dump(mode="json") | {"quant_method": "compressed-tensors", "format": scheme.format}
        said |= {"quantization_status": "compressed", "config_groups": {"group_0": scheme.model_dump(mode="json")}}
        written(model, folder, tensors, said)
        decode = BaseCompressor.get_value_from_registry(scheme.format)
        weights = {}
        for path in linears(model):
            local = {k.removeprefix(f"{path}."): t for k, t in tensors.items() if k.startswith(f"{path}.")}
            weights[path] = decode.decompress(local, scheme)["weight"]
        more = {"quantization_config": CompressedTensorsConfig(**options)} if options else {}
        return weights, loading(folder, **more)

    return make


def _scaled(module: Any) -> None:
    """Scales and zero points of a layer, of its largest and smallest values."""
    from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam

    args, W = module.quantization_scheme.weights, module.weight.detach()
    if args.strategy == "block":
        tall, wide = args.block_structure
        parts = W.view(len(W) // tall, tall, -1, wide).transpose(1, 2).flatten(2)
    elif args.group_size:
        parts = W.view(len(W), -1, args.group_size)
    else:
        parts = W.view(1 if args.strategy == "tensor" else len(W), 1, -1)
    low, high = parts.amin(-1), parts.amax(-1)
    if args.strategy == "tensor":
        low, high = low.view(1), high.view(1)
    whole = None
    if args.strategy == "tensor_group":
        whole = generate_gparam(W.amin(), W.amax())
        module.weight_global_scale.data.copy_(whole)
    scale, zero = calculate_qparams(low, high, args, whole)
    module.weight_scale.data = scale.to(module.weight_scale.dtype).view(module.weight_scale.shape)
    if getattr(module, "weight_zero_point", None) is not None:
        module.weight_zero_point.data = zero.to(module.weight_zero_point.dtype).view(module.weight_zero_point.shape)


# ---------------------------------------------------------------- GPTQ, AWQ


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
