"""Hosts as compressed-tensors packs them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from writing import Made, Maker, linears, loading, written


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
