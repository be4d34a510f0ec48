"""A block of a side network, of Llama's form: RMS norms, attention with turned positions, a gated feed-forward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from adaptr.errors import Unsupported

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.contract import Live
    from adaptr.host.context import Context
    from adaptr_plugins.side.ladder import Config


class Keys(Protocol):
    """A cache, of which a block has a layer."""

    def update(self, k: Tensor, v: Tensor, number: int, /) -> tuple[Tensor, Tensor]: ...


def block(s: Tensor, p: Live, cfg: Config, cache: Keys | None) -> Tensor:
    """The states s (batch, T, width) behind one more block. `cache`: of the side network, None for none."""
    from torch.nn.functional import linear, silu

    s = s + linear(_attended(_norm(s, p["n_1"]), p, cfg, cache), p["O"])
    z = _norm(s, p["n_2"])
    return s + linear(silu(linear(z, p["G"])) * linear(z, p["W"]), p["Z"])


def _norm(x: Tensor, g: Tensor) -> Tensor:
    from torch.nn.functional import rms_norm

    return rms_norm(x, x.shape[-1:], g, 1e-6)


def _attended(z: Tensor, p: Live, cfg: Config, cache: Keys | None) -> Tensor:
    from torch.nn.functional import linear, scaled_dot_product_attention

    q, k, v = (linear(z, p[name]).view(*z.shape[:2], -1, cfg.head).transpose(1, 2) for name in "QKV")
    if cfg.theta:
        turn = p.context.once((cfg.theta, cfg.head, z.dtype), lambda: _turn(p.context.positions(), cfg, z))
        q, k = (_turned(one, *turn) for one in (q, k))
    if cache is not None:
        k, v = cache.update(k, v, cfg.number)
    seen = _seen(p.context, cfg.causal, z.shape[1], k.shape[2])
    k, v = (one.repeat_interleave(q.shape[1] // one.shape[1], 1) for one in (k, v))
    return scaled_dot_product_attention(q, k, v, attn_mask=seen).transpose(1, 2).flatten(2)


def _seen(context: Context, causal: bool, tokens: int, keys: int) -> Tensor:
    """(batch or 1, 1, tokens, keys) of bool. A token sees itself, padding too: it would see nothing else."""
    import torch

    mask: Any = context.mask
    if not (mask is None or (isinstance(mask, torch.Tensor) and mask.ndim == 2 and mask.shape[1] == keys)):
        raise Unsupported(
            "the attention mask of a side network",
            got=f"`{type(mask).__name__}`" if not hasattr(mask, "shape") else f"shape {tuple(mask.shape)}",
            want=f"(batch, {keys})",
            hint="use a dynamic cache, from the first token on",
        )
    at = torch.arange(keys, device=context.device)
    own = at[None] == at[keys - tokens :, None]
    seen = at[None] <= at[keys - tokens :, None] if causal else torch.ones_like(own)
    return seen[None, None] if mask is None else (seen & mask.bool()[:, None, None]) | own


def _turn(positions: Tensor, cfg: Config, like: Tensor) -> tuple[Tensor, Tensor]:
    """(cos, sin), each (batch, 1, T, head)."""
    import torch

    even = torch.arange(0, cfg.head, 2, device=like.device, dtype=torch.float32)
    angles = positions[:, None, :, None].float() * cfg.theta ** (-even / cfg.head)
    both = torch.cat([angles, angles], -1)
    return both.cos().to(like.dtype), both.sin().to(like.dtype)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    import torch

    one, two = x.chunk(2, -1)
    return x * cos + torch.cat([-two, one], -1) * sin
