"""Sizes that come from a model's configuration, not from a weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr.errors import TargetNotFound

if TYPE_CHECKING:
    from torch import nn


def text_config(model: nn.Module) -> Any:
    return _language(getattr(model, "config", None))


def _language(config: object) -> Any:
    """Of a model of several modes, the configuration of its language part."""
    return config.get_text_config() if hasattr(config, "get_text_config") else config


def _config_at(model: nn.Module, path: str) -> Any:
    """The configuration that holds at `path`: that of the innermost module around it that has one."""
    module, found = model, text_config(model)
    for name in path.split("."):
        module = module.get_submodule(name)
        own: Any = getattr(module, "config", None)
        found = found if own is None else _language(own)
    return found


def hidden_size(model: nn.Module) -> int:
    return _width(text_config(model))


def _width(config: object) -> int:
    size = _first(config, "hidden_size", "d_model", "n_embd", "dim")
    if size is None:
        raise TargetNotFound(
            "the model's configuration has no hidden size, so it has no place for this method",
            hint="choose another method",
        )
    return size


def attention_size(config: object, module: nn.Module) -> tuple[int, int]:
    """(key/value heads, width of a head) of an attention module: what it says of itself, else its configuration."""
    heads = _first(config, "num_attention_heads", "n_head", "n_heads", "encoder_attention_heads", "num_heads")
    if heads is None:
        raise TargetNotFound(
            "the model's configuration has no number of attention heads", hint="choose a method that needs none"
        )
    width = _first(module, "head_dim", "attention_head_size", "key_value_proj_dim", "head_size")
    width = width or _first(config, "head_dim", "d_kv") or _width(config) // heads
    keys = next((k for name in ("k_proj", "k", "key", "k_lin") if (k := module._modules.get(name)) is not None), None)
    out = _first(keys, "out_features")
    return out // width if out else _first(config, "num_key_value_heads") or heads, width


def _first(owner: object, *names: str) -> int | None:
    """The first of these attributes that is a number."""
    found = (getattr(owner, name, None) for name in names)
    return next((value for value in found if isinstance(value, int) and not isinstance(value, bool)), None)


def size_at(model: nn.Module, path: str, module: nn.Module, kind: str) -> tuple[int, ...]:
    """The shape of a target that is no layer: of an attention, or of the output of any module."""
    config = _config_at(model, path)
    if kind == "attention":
        return attention_size(config, module)
    return (_first(module, "out_features", "nf") or _width(config),)
