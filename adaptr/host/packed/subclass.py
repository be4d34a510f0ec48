"""torchao: a weight that says it is a float and holds codes, a subclass of Tensor that takes itself apart."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from adaptr.host.packed.base import Packing


class Subclass(Packing):
    def holds(self, module: nn.Module) -> bool:
        weight = module._parameters.get("weight")
        if weight is None or type(weight) is nn.Parameter:  # asked first: what is compiled can't read names
            return False
        return type(weight).__module__.partition(".")[0] == "torchao"

    def weight(self, module: nn.Module) -> Tensor:
        weight: Any = module._parameters["weight"]
        return weight.detach().dequantize()  # type: ignore[no-any-return]

    def tensors(self, module: nn.Module) -> tuple[Any, ...]:
        """The weight too: another may be put in its place."""
        weight: Any = module._parameters["weight"]
        names, _ = weight.__tensor_flatten__()
        return (id(weight), *(getattr(weight, name) for name in names))
