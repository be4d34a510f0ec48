"""A block of a side network: RMS norms, attention, in a decoder another to what the encoder's side says, feed-forward.

Of Llama's form positions are turned and the feed-forward is gated; of T5's they are a bias of the attention, which has
no scale, and the feed-forward is T5's of either version.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from adaptr import Param
from adaptr.errors import Unsupported
from adaptr_plugins.side import _relative

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.contract import Live
    from adaptr.host.context import Context
    from adaptr_plugins.side.ladder import Config

#: What the first block of a stack tells the others, and an encoder's side its decoder's.
BIAS, ENCODED = "bias", "encoded"


#: A block's own tensors, and what an encoder's begins and ends with. s: the width of the side network, d of the base;
#: a, c: of queries, and of keys and values; f: inside.
PARAMS = {
    "n_1": Param("s", init="ones"),
    "Q": Param("a s", init="kaiming"),
    "K": Param("c s", init="kaiming"),
    "V": Param("c s", init="kaiming"),
    "O": Param("s a", init="kaiming"),
    "n_2": Param("s", init="ones"),
    "G": Param("f s", init="kaiming", when="gated"),
    "W": Param("f s", init="kaiming"),
    "Z": Param("s f", init="kaiming"),
    "R": Param("buckets heads", when="buckets", unless="number"),
    "n_c": Param("s", init="ones", when="cross"),
    "Q_c": Param("a s", init="kaiming", when="cross"),
    "K_c": Param("c s", init="kaiming", when="cross"),
    "V_c": Param("c s", init="kaiming", when="cross"),
    "O_c": Param("s a", init="kaiming", when="cross"),
    "E_1": Param("s d", init="kaiming", when="encodes", unless="number"),
    "b_1": Param("s", when="encodes", unless="number"),
    "n_3": Param("s", init="ones", when="encodes ends"),
}


class Keys(Protocol):
    """A cache, of which a block has a layer."""

    def update(self, k: Tensor, v: Tensor, number: int, /) -> tuple[Tensor, Tensor]: ...


def block(s: Tensor, p: Live, cfg: Config, cache: Keys | None) -> Tensor:
    """The states s (batch, T, width) behind one more block. `cache`: of the side network, None for none."""
    from torch.nn.functional import linear

    s = s + linear(_attended(norm(s, p["n_1"]), p, cfg, cache), p["O"])
    if cfg.cross:
        s = s + linear(_crossed(norm(s, p["n_c"]), p, cfg), p["O_c"])
    return s + linear(_inner(norm(s, p["n_2"]), p, cfg), p["Z"])


def norm(x: Tensor, g: Tensor) -> Tensor:
    from torch.nn.functional import rms_norm

    return rms_norm(x, x.shape[-1:], g, 1e-6)


def _inner(z: Tensor, p: Live, cfg: Config) -> Tensor:
    from torch.nn import functional as F

    def act(x: Tensor) -> Tensor:
        if cfg.act == "gelu":
            return F.gelu(x, approximate="tanh")
        return F.relu(x) if cfg.act == "relu" else F.silu(x)

    up = F.linear(z, p["W"])
    return act(F.linear(z, p["G"])) * up if cfg.gated else act(up)


def _heads(z: Tensor, weight: Tensor, cfg: Config) -> Tensor:
    from torch.nn.functional import linear

    return linear(z, weight).view(*z.shape[:2], -1, cfg.head).transpose(1, 2)


def _attended(z: Tensor, p: Live, cfg: Config, cache: Keys | None) -> Tensor:
    q, k, v = (_heads(z, p[name], cfg) for name in "QKV")
    if cfg.theta:
        turn = p.context.once((cfg.theta, cfg.head, z.dtype), lambda: _turn(p.context.positions(), cfg, z))
        q, k = (_turned(one, *turn) for one in (q, k))
    if cache is not None:
        k, v = cache.update(k, v, cfg.number)
    seen = _seen(p.context, cfg.causal, z, k.shape[2])
    if cfg.buckets:
        if not cfg.number:
            p.context.put((p.whose, BIAS), _relative.bias(p["R"], z.shape[1], k.shape[2], cfg.causal).to(z.dtype))
        seen = p.context.tapped((p.whose, BIAS)).masked_fill(~seen, float("-inf"))
    return _mixed(q, k, v, seen, cfg)


def _crossed(z: Tensor, p: Live, cfg: Config) -> Tensor:
    """Attention to the side states of the encoder, whose keys and values are kept with these where none learn."""
    import torch

    q = _heads(z, p["Q_c"], cfg)
    name = (p.whose, ENCODED, cfg.number)
    told: Any = p.context.handed((p.whose, ENCODED))
    read = told.to(z.dtype)
    kept: Any = None if torch.is_grad_enabled() else p.context.told.get(name)
    k, v = kept or (_heads(read, p["K_c"], cfg), _heads(read, p["V_c"], cfg))
    if not torch.is_grad_enabled():
        p.context.told[name] = k, v
    times = len(q) // len(k)  # of beams, whose rows follow each other
    k, v = (one.repeat_interleave(times, 0) for one in (k, v))
    mask = p.context.encoder_mask
    if len(q) != len(k) or not (mask is None or tuple(mask.shape) == (len(q), k.shape[2])):
        raise Unsupported(
            f"{len(q)} rows of the decoder, and what the side network of the encoder says",
            got=f"{len(read)} rows of {read.shape[1]} tokens",
            want="those of the encoder's mask" if mask is not None else "as many, or a part",
            hint="give the model ids and no outputs of the encoder",
        )
    return _mixed(q, k, v, None if mask is None else mask.bool()[:, None, None], cfg)


def _mixed(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, cfg: Config) -> Tensor:
    from torch.nn.functional import scaled_dot_product_attention

    k, v = (one.repeat_interleave(q.shape[1] // one.shape[1], 1) for one in (k, v))
    scale = 1.0 if cfg.buckets else None
    return scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scale).transpose(1, 2).flatten(2)


def _seen(context: Context, causal: bool, z: Tensor, keys: int) -> Tensor:
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
    at = torch.arange(keys, device=z.device)
    own = at[None] == at[keys - z.shape[1] :, None]
    seen = at[None] <= at[keys - z.shape[1] :, None] if causal else torch.ones_like(own)
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
