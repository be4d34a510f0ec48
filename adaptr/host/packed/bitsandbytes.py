"""bitsandbytes: codes of 4 bits with a scale for each block of the flat weight, or of 8 bits with one for each row.

In evaluation on processors with AVX512-BF16 it packs 4-bit weights anew, scales transposed and in bf16. Its own way
back leaves the scales of single quantisation transposed and quantises doubled ones again, so the layout is undone here
and the scales are not touched.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from adaptr.host.packed.base import Packing

#: What bitsandbytes calls the leave to pack a layer's weight where its module is no longer in training.
PACKS = "support_avx512bf16_for_cpu"
#: What says that it has.
ANEW = "packing_format_for_cpu"


class FourBits(Packing):
    def holds(self, module: nn.Module) -> bool:
        return getattr(module._parameters.get("weight"), "quant_state", None) is not None

    def weight(self, module: nn.Module) -> Tensor:
        from bitsandbytes.functional import dequantize_4bit

        return cast(Tensor, dequantize_4bit(*_flat(module)))

    def grid(self, module: nn.Module) -> str:
        weight: Any = module._parameters["weight"]
        return str(weight.quant_state.quant_type)

    def tensors(self, module: nn.Module) -> tuple[Any, ...]:
        weight: Any = module._parameters["weight"]
        return weight, weight.quant_state.absmax, weight.quant_state.code

    def hold(self, module: nn.Module) -> Callable[[], None]:
        """Unpacked, and packed by no forward in between, such as a measurement. What was packed is put back."""
        weight: Any = module._parameters["weight"]
        data, state, may = weight.data, weight.quant_state, vars(module).get(PACKS)
        weight.data, weight.quant_state = _flat(module)
        if may is not None:
            vars(module)[PACKS] = False

        def back() -> None:
            weight.data, weight.quant_state = data, state
            if may is not None:
                vars(module)[PACKS] = may

        return back


def _flat(module: nn.Module) -> tuple[Tensor, object]:
    """Codes and state in the order that they are stored in; those of the layer stay as they are."""
    weight: Any = module._parameters["weight"]
    data, state = weight.data, weight.quant_state
    if getattr(state, ANEW, False):
        from bitsandbytes.functional import _convert_weight_packed_for_cpu_inverse

        state = copy.copy(state)
        state.original_nested = False  # else it quantises the scales once more
        data, state = _convert_weight_packed_for_cpu_inverse(data, state)
    elif state.absmax.ndim == 1:
        return data, state
    # what bitsandbytes has unpacked itself, as `state_dict()` makes it do, has its scales transposed too
    state = copy.copy(state)
    state.absmax = state.absmax.t().reshape(-1).float()
    return data, state


class EightBits(Packing):
    def holds(self, module: nn.Module) -> bool:
        weight = module._parameters.get("weight")
        if weight is None or type(weight) is nn.Parameter:
            return False
        return type(weight).__name__ == "Int8Params" and not weight.is_floating_point()

    def weight(self, module: nn.Module) -> Tensor:
        from bitsandbytes.functional import int8_vectorwise_dequant

        weight, state = cast(Any, module._parameters["weight"]), cast(Any, module.state)
        scales = weight.SCB if state.SCB is None else state.SCB  # the first forward moves them
        return cast(Tensor, int8_vectorwise_dequant(weight.data, scales))
