"""A layer of the model as it is without adapters: its weight, its bias, and what it does with them."""

from __future__ import annotations

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
from adaptr.host.packed import is_packed, packing_of, unread

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
    looks = getattr(type(module), "_adaptr_is_read", False) or FORWARD in module.__dict__
    call = functools.partial(raw_forward, module) if looks else own_forward(module)
    weight, packing = module._parameters.get("weight"), packing_of(module)
    if packing is None and weight is None and not isinstance(getattr(module, "weight", None), Tensor):
        return View(call, functools.partial(_no_weight, type(module).__name__))
    op, axis = _operation(module)
    transposed = is_transposed(module)

    def rows(s: slice) -> Tensor:
        W = dense(module) if packing is None else packing.weight(module)
        return (W.t() if transposed else W)[s]

    def plain() -> Tensor | None:
        return weight.t() if transposed and weight is not None else weight

    if packing is not None:
        own, held = _linear if op is F.linear else op, packing.tensors
        bias_of, grid = functools.partial(_bias, module), packing.grid(module)
        return View(call, rows, bias_of, own, sources=lambda: held(module), axis=axis, grid=grid)
    bias = lambda: module._parameters.get("bias")
    if weight is None:  # computed from others at each call, as weight normalisation does
        return View(call, rows, bias, op, sources=lambda: _own_parameters(module), axis=axis)
    sources = lambda: (module._parameters.get("weight"),)
    if not _is_plain(module, weight):
        return View(call, rows, bias, op, sources=sources, axis=axis)
    return View(call, rows, bias, op, plain, sources=sources, axis=axis)


def _linear(x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
    """x Wᵀ + b of a packed layer, which is told in no dtype of its own."""
    return F.linear(x, W.to(x.dtype), None if b is None else b.to(x.dtype))


def _bias(module: nn.Module) -> Tensor | None:
    """That of a packed layer: a parameter, a buffer, or in hqq neither."""
    places = (module._parameters, module._buffers, module.__dict__)
    return next((found for place in places if (found := place.get("bias")) is not None), None)


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
    """The weight as stored, computed where it is parametrised. Raises `Unsupported` for codes of unknown meaning."""
    weight = module._parameters.get("weight")
    if weight is None:
        return cast(Tensor, module.weight)
    if is_packed(weight):
        raise unread(module, weight)
    return weight


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
