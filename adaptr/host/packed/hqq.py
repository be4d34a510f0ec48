"""HQQ: codes with a scale and a fractional zero for each group, in the layers of hqq."""

from __future__ import annotations

from typing import Any, NoReturn

from torch import Tensor, nn

from adaptr.errors import Unsupported
from adaptr.host.packed.base import Packing


class HQQ(Packing):
    def holds(self, module: nn.Module) -> bool:
        return module._parameters.get("W_q") is not None

    def weight(self, module: nn.Module) -> Tensor:
        layer: Any = module
        return layer.dequantize().detach()  # type: ignore[no-any-return]


class Unread(Packing):
    """Layers that transformers prepared for HQQ's codes and gave random weights instead, as it does since 5.0."""

    def holds(self, module: nn.Module) -> bool:
        own = module.__dict__
        return "W_q" in own and "quant_config" in own and module._parameters.get("weight") is not None

    def weight(self, module: nn.Module) -> Tensor:
        self._refuse(type(module).__name__)

    def require_sound(self, path: str, module: nn.Module) -> None:
        self._refuse(path)

    @staticmethod
    def _refuse(name: str) -> NoReturn:
        raise Unsupported(
            f"`{name}`: transformers loads no checkpoint of HQQ: it left the codes out, and the weight is random",
            hint="load the base unquantised and quantise it by hqq in memory (`HQQLinear`)",
        )
