"""Activated LoRA: y = W x + s B A x from the start of the text's last invocation on, y = W x before.  Greenewald et al.
2025, arXiv:2504.12397.

What comes before is the base's, keys and values too, so that a cache that the base has filled can be gone on with: give
the tokens behind it in one call, the whole invocation among them. `invocation`: its ids. A text without it is left as
it is, and what is generated invokes nothing that goes on already. `s`, `rslora` and `bias` are LoRA's.

Choose it for short jobs behind a long text that is in the cache already, such as a check, a rewrite, a verdict: what
comes before the invocation is the base's, and need not be computed again. It can't be merged, and without such a cache
LoRA gives the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adaptr import Insert, Param, Target
from adaptr.contract import Costs, Live, Mount
from adaptr.errors import BadConfig, Unsupported
from adaptr_plugins.insert._invoked import invoked

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter


@dataclass(frozen=True)
class Config:
    r: int = 32
    alpha: float = 32.0
    dropout: float = 0.0
    rslora: bool = False
    bias: bool = False
    invocation: list[int] = field(default_factory=list)


class ALoRA(Insert[Config]):
    name = "alora"
    params = {
        "A": Param("r in", init="kaiming"),
        "B": Param("out r", init="zeros"),
        "b": Param("out", init="zeros", when="bias"),
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q|attn.qkv", "attn.k|attn.qkv", "attn.v|attn.qkv")
    unmergeable = "positions"
    possible = "keep it attached"
    averages = False  # of products, which the product of means is not
    small = {"r": 4, "invocation": [4]}
    kept_within = 0.1  # nothing of what precedes the invocation

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        from torch.nn.functional import dropout, linear

        where = p.context.once(("alora", *cfg.invocation), lambda: invoked(p.context, cfg.invocation))
        if where.numel() != math.prod(h.shape[:-1]):
            raise Unsupported(
                f"`{self.name}` at `{p.place}`: the layer has outputs of shape {tuple(h.shape)} for tokens of shape "
                f"{tuple(where.shape)}, so which of them stand where is not known",
                hint="leave that layer out of the targets",
            )
        change = linear(linear(dropout(x, cfg.dropout, p.training), p["A"]), p["B"], p["b"] if cfg.bias else None)
        return (change * self.scale(cfg)).where(where.reshape(h.shape[:-1])[..., None], 0)

    def scale(self, cfg: Config) -> float:
        return cfg.alpha / (math.sqrt(cfg.r) if cfg.rslora else cfg.r)

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
            raise Unsupported(
                f"`{self.name}` works from an invocation in the text on, and this model has two texts, of an encoder "
                "and of a decoder",
                hint="choose `lora`",
            )
        return [Mount(path, "output", context=True) for path in adapter.targets]

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        if not cfg.invocation or min(cfg.invocation) < 0:
            raise BadConfig(f"`{self.name}`: `invocation`", got=cfg.invocation, want="ids of tokens, one at least")
        return {}

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        out, width = target.shape
        return None if cfg.dropout else Costs(input=True, token=cfg.r + out, flops=2 * cfg.r * (out + width))
