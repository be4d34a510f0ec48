"""compressed-tensors: any of its formats until the model's first forward, which makes plain weights of them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from adaptr.errors import Unsupported
from adaptr.host.packed.base import Packing


class Compressed(Packing):
    def holds(self, module: nn.Module) -> bool:
        return getattr(module.__dict__.get("quantization_scheme"), "weights", None) is not None

    def weight(self, module: nn.Module) -> Tensor:
        stored = module._parameters.get("weight")
        if stored is not None and stored.is_floating_point() and stored.element_size() > 1:
            return stored
        from compressed_tensors.compressors import BaseCompressor
        from compressed_tensors.compressors.format import infer_module_format

        scheme: Any = module.__dict__["quantization_scheme"]
        name = scheme.format or infer_module_format(nn.Linear, scheme)
        compressor = BaseCompressor.get_value_from_registry(getattr(name, "value", name))
        own = {name: p.detach() for name, p in module._parameters.items() if p is not None and name != "bias"}
        weight: Tensor = compressor.decompress(own, scheme)["weight"]
        return weight

    def require_learning(self, path: str, module: nn.Module) -> None:
        scheme: Any = module.__dict__["quantization_scheme"]
        if scheme.input_activations is not None and getattr(module, "quantization_enabled", True):
            raise Unsupported(
                f"`{path}`: compressed-tensors quantises the inputs of this layer, and passes no gradient to them: "
                "what is below it would not learn",
                hint="load the base with `CompressedTensorsConfig(dequantize=True)`",
            )
