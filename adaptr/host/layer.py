"""A layer of the model as it is without adapters: its weight, its bias, and what it does with them."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from adaptr.adapter import Target
from adaptr.contract import View
from adaptr.contract.view import of_weight
from adaptr.errors import Unsupported
from adaptr.host.call import put, restore

#: Where a forward that was set on the instance is meanwhile (accelerate does so): it would hide the class's.
FORWARD = "_adaptr_forward"
#: What a layer finds in a call of its own forward.
RAW = "raw"


def original(module: nn.Module) -> type[nn.Module]:
    """The class of a module, without the swap."""
    found: type[nn.Module] = getattr(type(module), "_adaptr_base", type(module))
    return found


def own_forward(module: nn.Module) -> Callable[..., Any]:
    """The forward of a layer without adapters."""
    found: Callable[..., Any] | None = module.__dict__.get(FORWARD)
    return functools.partial(original(module).forward, module) if found is None else found


def raw_forward(module: nn.Module, *args: object, **kwargs: object) -> Any:
    """The layer's own forward, which sees its own weight."""
    before = put(module, RAW)
    try:
        return own_forward(module)(*args, **kwargs)
    finally:
        restore(before)


def base_view(module: nn.Module) -> View:
    """The View of a module as it is without adapters."""
    is_read = getattr(type(module), "_adaptr_is_read", False)
    call = functools.partial(raw_forward, module) if is_read else own_forward(module)
    weight = module._parameters.get("weight")
    if weight is None and not isinstance(getattr(module, "weight", None), Tensor):
        return View(call, functools.partial(_no_weight, type(module).__name__))
    op, axis = _operation(module)
    transposed = is_transposed(module)

    def rows(s: slice) -> Tensor:
        W = dense(module)
        return (W.t() if transposed else W)[s]

    def plain() -> Tensor | None:
        return weight.t() if transposed and weight is not None else weight

    def sources() -> tuple[Any, ...]:
        now = module._parameters.get("weight")
        return (now,) if type(now) is nn.Parameter else (now, *_quantised_with(now))

    bias = lambda: module._parameters.get("bias")
    if weight is None:  # computed from others at each call, as weight normalisation does
        return View(call, rows, bias, op, sources=lambda: _own_parameters(module), axis=axis)
    if not _is_plain(module, weight):
        return View(call, rows, bias, op, sources=sources, axis=axis)
    return View(call, rows, bias, op, plain, sources=sources, axis=axis)


def _quantised_with(weight: object) -> tuple[Any, ...]:
    """What stands beside a packed weight and says what its numbers mean."""
    state = getattr(weight, "quant_state", None)
    return () if state is None else (state.absmax, state.code)


def _own_parameters(module: nn.Module) -> tuple[Tensor, ...]:
    """All that a parametrised weight is computed from, without the adapters on it."""
    return tuple(p for name, p in module.named_parameters() if not name.startswith("adapters."))


def is_transposed(module: nn.Module) -> bool:
    """Whether the weight is stored as (in, out)."""
    return type(module).__name__.endswith("Conv1D") or isinstance(module, nn.Embedding)


def _is_plain(module: nn.Module, weight: Tensor) -> bool:
    """Whether the layer is x Wᵀ + b and nothing else: a subclass may do more in its forward."""
    if FORWARD in module.__dict__:
        return False
    cls = original(module)
    gpt2 = cls.__name__ == "Conv1D" and cls.__module__ == "transformers.pytorch_utils"
    return (gpt2 or cls.forward is nn.Linear.forward) and type(weight) is nn.Parameter and not is_packed(weight)


def dense(module: nn.Module) -> Tensor:
    """The weight as stored, dequantised where the layer is quantised, computed where it is parametrised."""
    if "weight" not in module._parameters:
        return cast(Tensor, module.weight)
    weight = cast(Tensor, module._parameters["weight"])
    if not is_packed(weight):
        return weight
    undo = unpack(module)
    state = getattr(weight, "quant_state", None)
    if state is None or weight.shape[-1] != 1:
        raise Unsupported(
            f"the weight of a `{type(module).__name__}` is packed ({weight.dtype}, shape {tuple(weight.shape)}) "
            "and can't be read",
            hint="delta and insert methods work on it, or load the base unquantised",
        )
    from bitsandbytes.functional import dequantize_4bit

    value = cast(Tensor, dequantize_4bit(weight.data, state))
    undo()
    return value


def is_packed(weight: Tensor) -> bool:
    """Whether the numbers stored are not the weight: integers, and eight bits that something else scales."""
    return not weight.is_floating_point() or weight.element_size() == 1


#: What bitsandbytes calls the leave to pack a layer's weight where its module is no longer in training.
PACKS = "support_avx512bf16_for_cpu"


def unpack(module: nn.Module) -> Callable[[], None]:
    """Undo how bitsandbytes packs 4-bit weights for inference on a CPU: packed so, they lose gradients in silence.

    Returns how to put the packed ones back, as its own way there and back rounds them.
    """
    weight: Any = module._parameters.get("weight")
    state = getattr(weight, "quant_state", None)
    if not getattr(state, "packing_format_for_cpu", False):
        return lambda: None
    packed, kept = weight.data, copy.copy(state)
    module.state_dict()  # it unpacks them, to save them

    def undo() -> None:
        weight.data, weight.quant_state = packed, kept

    return undo


def keep_unpacked(module: nn.Module) -> Callable[[], None]:
    """Unpack a layer's weight, and let no forward in between, such as a measurement, pack it again. Returns the way
    back.
    """
    undo = unpack(module)
    if PACKS not in vars(module):
        return undo
    before = vars(module)[PACKS]
    vars(module)[PACKS] = False

    def back() -> None:
        vars(module)[PACKS] = before
        undo()

    return back


def _no_weight(kind: str, s: slice) -> Tensor:
    raise Unsupported(f"a `{kind}` has no weight of its own", hint="read it inside a forward, or of one of its layers")


def _operation(module: nn.Module) -> tuple[Callable[..., Tensor], int]:
    """What this kind of layer does with a weight, and where its output features are."""
    if isinstance(module, nn.Embedding):
        # tables that scale their output do so in their own forward; what goes beside must be scaled alike
        factor = getattr(module, "embed_scale", None)

        def embed(x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
            y = F.embedding(x, W.t())
            return y if factor is None else y * torch.as_tensor(factor, dtype=y.dtype)

        return embed, -1
    if isinstance(module, nn.modules.conv._ConvNd):
        conv = cast(Any, module)

        def convolve(x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
            y: Tensor = conv._conv_forward(x, W, b)  # the layer's own geometry and padding mode
            return y

        return convolve, -1 - len(conv.kernel_size)
    return F.linear, -1


def view_of(model: nn.Module, target: Target) -> View:
    """The View of a target in a live model, without adapters: what a fresh adapter may look at."""
    if target.kind in {"experts", "experts_t"}:
        parameter = model.get_parameter(target.path).detach()
        return of_weight(parameter.transpose(1, 2) if target.transposed else parameter)
    view = base_view(model.get_submodule(target.path))
    return view.then(rows=lambda s: view.rows(s).detach())
