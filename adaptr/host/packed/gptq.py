"""GPTQ and AWQ in the layers of gptqmodel: codes of a transposed weight, which some kernels pack anew when they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from adaptr.errors import Unsupported
from adaptr.host.packed.base import Packing

_OTHER = "load the base with a kernel that learns: `GPTQConfig(backend='gptq_torch')`, `AwqConfig(backend='torch_awq')`"


class GPTQ(Packing):
    def holds(self, module: nn.Module) -> bool:
        return module._buffers.get("qweight") is not None

    def weight(self, module: nn.Module) -> Tensor:
        layer: Any = module
        if getattr(layer, "scales_and_zeros", None) is not None:
            return self._asked(layer)
        read = getattr(layer, "dequantize_weight", None)
        if read is not None:
            return read().t().detach()  # type: ignore[no-any-return]
        from gptqmodel.quantization.awq.utils.packing_utils import dequantize_gemm

        codes = {name: layer._buffers[name] for name in ("qweight", "qzeros", "scales")}
        return dequantize_gemm(**codes, bits=layer.bits, group_size=layer.group_size).t()  # type: ignore[no-any-return]

    @staticmethod
    def _asked(layer: nn.Module) -> Tensor:
        """Of codes that ATen has packed anew, which gptqmodel can't read: what the kernel makes of an identity."""
        kernel: Any = layer
        with torch.no_grad():
            one = torch.eye(kernel.in_features, dtype=kernel.scales_and_zeros.dtype, device=kernel.qweight.device)
            return kernel._fused_op_forward(one).t()  # type: ignore[no-any-return]

    def require_learning(self, path: str, module: nn.Module) -> None:
        name = type(module).__name__.removeprefix("Adapted")
        if getattr(module, "SUPPORTS_TRAINING", True) is False:
            raise Unsupported(f"`{path}`: the kernel of a `{name}` is for inference alone", hint=_OTHER)
        if getattr(module, "linear_mode", None) == "inference":
            raise Unsupported(
                f"`{path}`: a `{name}` that has run in inference passes no gradient any more",
                hint=f"load the base again and train before it runs, or {_OTHER}",
            )

    def hold(self, module: nn.Module) -> Callable[[], None]:
        """The first forward chooses for good: here for training."""
        if getattr(module, "linear_mode", "") is not None:
            return super().hold(module)
        module.linear_mode = "train"  # type: ignore[assignment]

        def back() -> None:
            module.linear_mode = None  # type: ignore[assignment]

        return back
