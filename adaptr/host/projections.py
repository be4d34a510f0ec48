"""Keys and values by an attention's own projections, with the adapters that are on these, before any rotation."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from adaptr.errors import Unsupported

#: What attentions call the two layers; of a fused one the shares of query, key and value are its thirds.
PAIRS = (("k_proj", "v_proj"), ("key", "value"), ("k", "v"), ("k_lin", "v_lin"))
THIRDS = ("c_attn",)


def keys_values(module: nn.Module, rows: Tensor, heads: int, width: int) -> tuple[Tensor, Tensor]:
    """(key/value heads, n, width) twice, of rows (n, d). Raises `Unsupported` for an attention it can't be had of."""
    flat = _flat(module, rows)
    k, v = (t.view(len(rows), heads, width).transpose(0, 1) for t in flat)
    norm = module._modules.get("k_norm")
    return (k if norm is None else cast(Tensor, norm(k))), v


def _flat(module: nn.Module, rows: Tensor) -> tuple[Tensor, Tensor]:
    for k, v in PAIRS:
        if module._modules.get(k) is not None and module._modules.get(v) is not None:
            return module._modules[k](rows), module._modules[v](rows)  # type: ignore[misc]
    for name in THIRDS:
        fused = module._modules.get(name)
        if fused is not None:
            _, key, value = fused(rows[None])[0].chunk(3, -1)
            return key, value
    raise Unsupported(
        f"a `{type(module).__name__}` has no layers for keys and values that are known apart",
        want=f"{', '.join((k for k, _ in PAIRS))} or {', '.join(THIRDS)}",
        hint="choose a method that needs no keys and values, or leave this module out of the targets",
    )
