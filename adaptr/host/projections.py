"""Keys and values by an attention's own projections, with the adapters that are on these, before any rotation.

Of one layer that makes queries, keys and values together, no name says which columns are whose; the class does.
"""

from __future__ import annotations

from typing import Literal, cast

from torch import Tensor, nn

from adaptr.errors import Unsupported

#: What attentions call the two layers.
PAIRS = (("k_proj", "v_proj"), ("key", "value"), ("k", "v"), ("k_lin", "v_lin"))
#: How the columns of a fused layer lie: all queries, then all keys, then all values; or for each head its three.
Layout = Literal["blocks", "heads"]
#: transformers' model to the fused layer of its attentions and how that lies.
FUSED: dict[str, tuple[str, Layout]] = {
    "gpt2": ("c_attn", "blocks"),
    "decision_transformer": ("c_attn", "blocks"),
    "gpt_bigcode": ("c_attn", "heads"),  # with several key/value heads; see `_layout`
    "gpt_neox": ("query_key_value", "heads"),
    "persimmon": ("query_key_value", "heads"),
    "phi3": ("qkv_proj", "blocks"),
    "phi4_multimodal": ("qkv_proj", "blocks"),
}
#: What norms of keys and of values are called; they see heads, or in some models all heads at once.
NORMS = (("k_norm", "k_layernorm", "key_layernorm"), ("v_norm",))


def keys_values(module: nn.Module, rows: Tensor, heads: int, width: int) -> tuple[Tensor, Tensor]:
    """(key/value heads, n, width) twice, of rows (n, d). Raises `Unsupported` for an attention it can't be had of."""
    _refuse_norms(module)
    both = (_clipped(module, t) for t in _flat(module, rows, heads, width))
    k, v = (_normed(module, names, t, heads, width) for names, t in zip(NORMS, both, strict=True))
    return k, v


def _flat(module: nn.Module, rows: Tensor, heads: int, width: int) -> tuple[Tensor, Tensor]:
    """(n, heads x width) twice."""
    for k, v in PAIRS:
        if module._modules.get(k) is not None and module._modules.get(v) is not None:
            return module._modules[k](rows), module._modules[v](rows)  # type: ignore[misc]
    name, layout = _layout(module)
    fused = module._modules.get(name)
    if fused is None:
        raise Unsupported(
            f"a `{type(module).__name__}` has no layers for keys and values that are known apart",
            want=f"{', '.join(k for k, _ in PAIRS)}, or a fused one of {', '.join(FUSED)}",
            hint="choose a method that needs no keys and values, or leave this module out of the targets",
        )
    columns = fused(rows[None])[0]
    if layout == "heads":
        _, k, v = columns.view(len(rows), heads, 3, width).unbind(2)
        return k.flatten(1), v.flatten(1)
    size = heads * width
    return columns[:, -2 * size : -size], columns[:, -size:]


def _layout(module: object) -> tuple[str, Layout]:
    """The fused layer and how it lies, ("", ...) where that is not known."""
    for cls in type(module).__mro__:
        package, _, file = cls.__module__.rpartition(".")
        if package.startswith("transformers.models.") and file.startswith("modeling_"):
            name, layout = FUSED.get(file.removeprefix("modeling_"), ("", "blocks"))
            one = getattr(module, "multi_query", False)  # one head of keys for all queries lies behind them
            return name, "blocks" if one else layout
    return "", "blocks"


def _clipped(module: object, flat: Tensor) -> Tensor:
    most = getattr(module, "clip_qkv", getattr(getattr(module, "config", None), "clip_qkv", None))
    return flat if most is None else flat.clamp(-most, most)


def _normed(module: nn.Module, names: tuple[str, ...], flat: Tensor, heads: int, width: int) -> Tensor:
    """(heads, n, width), through the norm of one of `names`, if there is one."""
    norm = next((found for name in names if (found := module._modules.get(name)) is not None), None)
    weight = getattr(norm, "weight", None)
    whole = heads > 1 and isinstance(weight, Tensor) and weight.numel() == heads * width
    if norm is not None and whole:
        return cast(Tensor, norm(flat)).view(len(flat), heads, width).transpose(0, 1)
    apart = flat.view(len(flat), heads, width).transpose(0, 1)
    return apart if norm is None else cast(Tensor, norm(apart[None]))[0]


def _refuse_norms(module: nn.Module) -> None:
    known = {name for names in NORMS for name in names}
    for name, found in module._modules.items():
        if found is not None and name[0] in "kv" and "norm" in name and name not in known:
            raise Unsupported(
                f"what the `{name}` of a `{type(module).__name__}` does to keys and values is not known",
                hint="choose a method that needs no keys and values, or leave this module out of the targets",
            )
