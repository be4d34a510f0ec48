"""Hosting of prefixes: extra key/value columns in front of every attention, through transformers' attention registry.

One wrapper per implementation (`adaptr_sdpa`, `adaptr_eager`) is registered together with the mask function of the same
name; without the latter, padding and causality would be lost without a word. The wrapper finds its tensors on the
attention module it is called for and calls the base implementation. Prefixes are not stored in the KV cache and shift
no position.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from adaptr.adapter import Target
from adaptr.errors import Unsupported
from adaptr.host.positions import Positions, backbone
from adaptr.host.state import State

PREFIX = "adaptr_"
SUPPORTED = ("sdpa", "eager")
Undo = Callable[[], None]


def mount(model: nn.Module, key: str, target: Target, state: State) -> Undo:
    """Put a prefix on one attention module and make the model look for it."""
    module = model.get_submodule(target.path)
    shift = _shift(model, module, state)
    _activate(model)
    if "adapters" not in module._modules:
        module.adapters = nn.ModuleDict()
    cast(nn.ModuleDict, module.adapters)[key] = state

    def undo() -> None:
        del cast(nn.ModuleDict, module.adapters)[key]
        if not module.adapters:
            del module.adapters
        shift()
        _deactivate(model)

    return undo


def _activate(model: Any) -> None:
    """Select the wrapper of the implementation in use; counted, so that the last prefix restores it."""
    counted = model.__dict__.get("_adaptr_attention")
    if counted is None:
        name = model.config._attn_implementation
        if name not in SUPPORTED:
            raise Unsupported(f"prefixes work with {' and '.join(SUPPORTED)} attention, this model uses `{name}`")
        register()
        model.set_attn_implementation(PREFIX + name)
        counted = model.__dict__["_adaptr_attention"] = [name, 0, _count(model)]
    counted[1] += 1


def _count(model: nn.Module) -> Any:
    found = backbone(model)
    # before a gate's own pass, which shall see them too
    return found and found.register_forward_pre_hook(Positions(found), with_kwargs=True, prepend=True)


def _deactivate(model: Any) -> None:
    counted = model.__dict__["_adaptr_attention"]
    counted[1] -= 1
    if counted[1] == 0:
        model.set_attn_implementation(counted[0])
        if counted[2] is not None:
            counted[2].remove()
        del model.__dict__["_adaptr_attention"]


def register() -> None:
    """Make the wrappers known to transformers; once is enough."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if PREFIX + "sdpa" in ALL_ATTENTION_FUNCTIONS.valid_keys():
        return
    for name, wrapper in (("sdpa", _sdpa), ("eager", _eager)):
        AttentionMaskInterface.register(PREFIX + name, ALL_MASK_ATTENTION_FUNCTIONS[name])
        AttentionInterface.register(PREFIX + name, wrapper)


def _sdpa(module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **kwargs: Any) -> Any:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    return _extended(sdpa_attention_forward, module, q, k, v, mask, kwargs)


def _eager(module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **kwargs: Any) -> Any:
    # the model's own eager function: some cap or bias the scores in it
    own = sys.modules[type(module).__module__].eager_attention_forward
    return _extended(own, module, q, k, v, mask, kwargs)


def _extended(
    base: Any, module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, kwargs: dict[str, Any]
) -> Any:
    """Call `base` with the prefixes of `module` in front of k and v (batch, heads, length, width)."""
    states = module._modules.get("adapters")
    if not states:
        return base(module, q, k, v, mask, **kwargs)
    if kwargs.get("cache") is not None:
        raise Unsupported("prefixes don't work with a paged attention cache")
    pairs = [_keys_values(s) for s in cast(Any, states).values()]
    K = torch.cat([pair[0] for pair in pairs], dim=1).to(k)
    V = torch.cat([pair[1] for pair in pairs], dim=1).to(v)
    columns, T = K.shape[1], q.shape[2]
    causal = kwargs.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    if mask is None and T > 1 and causal:
        # without a mask, attention is causal from the first key on: a static cache's unused tail must go, and the
        # triangle must be written down before columns are put in front of it
        k, v = k[:, :, :T], v[:, :, :T]
        mask = torch.ones(T, T, dtype=torch.bool, device=q.device).tril()[None, None]
        if base.__name__ == "eager_attention_forward":
            mask = torch.zeros(mask.shape, dtype=q.dtype, device=q.device).masked_fill(~mask, torch.finfo(q.dtype).min)
    if mask is not None:
        mask = pad(mask, (columns, 0), value=mask.dtype == torch.bool)
    bias = kwargs.get("position_bias")
    if bias is not None:
        kwargs = {**kwargs, "position_bias": pad(bias[..., : k.shape[2]], (columns, 0))}
    k = torch.cat([K.expand(k.shape[0], -1, -1, -1), k], dim=2)
    v = torch.cat([V.expand(v.shape[0], -1, -1, -1), v], dim=2)
    return base(module, q, k, v, mask, **kwargs)


# ---------------------------------------------------------------- prefixes trained with shifted positions


def _keys_values(state: State) -> tuple[Tensor, Tensor]:
    """What goes in front, keys turned back where they were trained shifted."""
    K, V = state.method.keys_values(state, state.cfg)
    R = state._buffers.get("rotation")
    return K if R is None else K @ R.to(K), V


def _shift(model: nn.Module, module: nn.Module, state: State) -> Undo:
    """Honour `position_offset = "shift"`: text at positions P, P+1, ... as when a prefix goes through the cache.

    With rotary positions the keys are turned back by P instead, which is exact. With learned positions the position
    table is read P further on. Other schemes are refused.
    """
    if state.cfg.position_offset == "none":
        return lambda: None
    rotary = next((m for name, m in model.named_modules() if name.endswith("rotary_emb")), None)
    if rotary is not None:
        state.register_buffer("rotation", _rotation(rotary, module, state), persistent=False)
        return lambda: None
    table = _position_table(model)
    if table is None:
        raise Unsupported(
            f"`{state.target.path}`: this prefix was trained with shifted positions, and this model's positions are "
            "neither rotary nor a learned table, so it can't be applied exactly"
        )
    count = table.__dict__.setdefault("_adaptr_shift", [0, None])
    if count[0] == 0:
        count[1] = table.register_forward_pre_hook(Shift(state.cfg.tokens))
    count[0] += 1

    def undo() -> None:
        count[0] -= 1
        if count[0] == 0:
            count[1].remove()
            del table.__dict__["_adaptr_shift"]

    return undo


class Shift:
    """A pre-hook of a position table: the same positions, `by` further on."""

    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0] + self.by, *args[1:])


def _position_table(model: nn.Module) -> nn.Module | None:
    ends = ("wpe", "position_embeddings")
    found = (m for name, m in model.named_modules() if name.endswith(ends) and isinstance(m, nn.Embedding))
    return next(found, None)


def _rotation(rotary: nn.Module, module: nn.Module, state: State) -> Tensor:
    """The rotation of keys by P positions back, as a matrix (width, width) to multiply from the right.

    Made of the model's own `rotate_half`, so that halves, pairs and partly rotated heads come out as the model has
    them.
    """
    config = getattr(rotary, "config", None)
    kind = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    turn = getattr(sys.modules[type(module).__module__], "rotate_half", None)
    if kind in {"dynamic", "longrope"} or turn is None or not hasattr(rotary, "inv_freq"):
        raise Unsupported(
            f"`{state.target.path}`: a prefix with shifted positions can't be turned back exactly with this model's "
            f"`{kind}` rotary positions"
        )
    at = torch.tensor([[state.cfg.tokens]], device=state["K"].device)
    cos, sin = rotary(torch.zeros(1, 1, 1, device=at.device), at)
    scaling = float(getattr(rotary, "attention_scaling", 1.0))
    R = torch.eye(state.target.shape[1], device=at.device)
    part = R[: cos.shape[-1], : cos.shape[-1]]
    R[: cos.shape[-1], : cos.shape[-1]] = (part * cos[0] - turn(part) * sin[0]) / scaling
    return R
