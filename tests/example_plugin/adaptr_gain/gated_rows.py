"""LLaMA-Adapter: y = Attn(q, K, V) + γ softmax(q Kₚᵀ / √d) Vₚ, Kₚ and Vₚ the host's own projections of learned rows A.
Zhang et al. 2023, arXiv:2303.16199.

A softmax of its own, not columns of the host's: nothing is masked, cached or rotated. γ = tanh(g) of one gate a head
starts at zero, so a fresh adapter is the identity. The paper adapts the topmost layers; say which by `targets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Method, Param, Target, targets

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.contract import Live
    from adaptr.sites.attention import Attend, Attended


@dataclass(frozen=True)
class Config:
    tokens: int = 10
    width: int = 1
    heads: int = 1


class GatedRows(Method[Config]):
    name = "gated-rows"
    family = "attention"
    formulas = ("attention",)
    kinds = frozenset({"attention"})
    targets = ("attention",)
    params = {"A": Param("tokens width", init="normal:1"), "g": Param("heads 1 1")}
    unmergeable = "tokens"

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        config = targets.text_config(model)
        heads = getattr(config, "num_attention_heads", None) or config.n_head
        return {"width": targets.hidden_size(model), "heads": heads, **values}

    def attention(self, rest: Attend, a: Attended, p: Live, cfg: Config, weight: float) -> tuple[Tensor, Tensor | None]:
        y, weights = rest(a)
        more = a.over(*a.projected(p["A"]))
        return y + (weight * p["g"].tanh() * more.transpose(1, 2)).transpose(1, 2).to(y.dtype), weights
