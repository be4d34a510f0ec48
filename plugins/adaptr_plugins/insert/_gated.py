"""UniPELT's gates, sigmoid(g x + c): of each text the mean over its tokens, or of each token its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Param, Target
from adaptr.contract import Live
from adaptr.errors import Unsupported

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter

Of = Literal["auto", "text", "token"]
_ENCODER = re.compile(r"(.*\.)?encoder\..*")
_CROSS = re.compile(r".*(EncDecAttention|encoder_attn|crossattention).*")


def params(width: str, count: str = "1") -> Mapping[str, Param]:
    """The gates' own: `count` of them, and of the axis `width` the inputs of all, one gate's after another's."""
    return {"g": Param(width, init="normal:0.02"), "c": Param(count)}


def said(model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
    """With what a gate is of: a text, but a token in what generates, where a mean over the text would look ahead."""
    if values.get("of", "auto") != "auto":
        return values
    config = getattr(model, "config", None)
    two = getattr(config, "is_encoder_decoder", False)
    ahead = _generates(model, config) and not (two and _ENCODER.fullmatch(target.path))
    return {**values, "of": "token" if ahead else "text"}


def _generates(model: nn.Module, config: object) -> bool:
    """Of a sketch, which can't be asked, by what its class is called."""
    asked = getattr(model, "can_generate", None)
    named = (getattr(config, "architectures", None) or [""])[0]
    return bool(asked()) if asked else named.endswith(("CausalLM", "LMHeadModel", "ConditionalGeneration"))


def crosses(path: str) -> bool:
    """Whether it is in an attention to another text, whose tokens are others than those that come in."""
    return _CROSS.fullmatch(path) is not None


def texts(adapter: Adapter) -> frozenset[str]:
    """The targets whose gates must know what is padding."""
    return frozenset(path for path, target in adapter.targets.items() if target.config["of"] == "text")


def gates(x: Tensor, p: Live, of: str) -> Tensor:
    """Of inputs x (batch, tokens, d): (batch, tokens, gates), or (batch, 1, gates) without padding in it."""
    g = p["g"].to(x.dtype).view(-1, x.shape[-1])
    s: Tensor = ((x[..., None, :] * g).sum(-1) + p["c"].to(x.dtype)).sigmoid()
    if of == "token":
        return s
    context = p.context
    if bool(context.offset):
        raise Unsupported(
            f"`{p.place}`: a gate of a whole text does not know what of it is in the cache",
            hint='generate without a cache, or make the adapter with `of="token"`',
        )
    if not context.has_tokens and s.ndim == 3:
        return s.mean(1, keepdim=True)
    if context.shape != tuple(s.shape[:-1]):
        raise Unsupported(
            f"`{p.place}`: inputs of shape {tuple(x.shape)} for tokens of shape {context.shape}: which of them are "
            "padding is not known",
            hint='make the adapter with `of="token"`',
        )
    real = context.real()[..., None]
    return (s * real).sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp(min=1)
