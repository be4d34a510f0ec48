"""AdapterFusion: y = h + Σₙ sₙ V aₙ, s = softmaxₙ((Q z + b_q)ᵀ (K aₙ + b_k)), aₙ what adapter n would add to h.
Pfeiffer et al. 2021, arXiv:2005.00247.

Made over trained bottlenecks at the same places, which stay as they are; only Q, K and V learn, and a head. z is what
the adapters read where that is one thing, such as LN(h + r) of `pfeiffer`, else h. V starts near 1, so that a fresh one
adds a mean of what its adapters add, and is not the identity. `regularise`: 0.01 Σ ‖1 - V‖² is added to the loss.
`dropout` is of the scores, as AdapterHub has it.

Choose it for a task with few records that others' adapters know something of: it learns for each token whom to hear. In
each layer it is three matrices of the model's width, more than the adapters, and every token pays for all of them; it
can't be merged. Where one adapter is enough it adds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptr import Adapter, Fusion, Param, Target, View

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.contract import Live
    from adaptr.host import Session

READ = ("residual", "calls", "reads")


@dataclass(frozen=True)
class Config:
    experts: list[str] = field(default_factory=list)
    regularise: float = 0.01
    dropout: float = 0.0
    residual: bool = False
    calls: str = ""
    reads: str = ""


class AdapterFusion(Fusion[Config]):
    name = "adapter-fusion"
    targets = ("ffn_out",)
    rate = 5e-5
    params = {
        "Q": Param("d d", init="normal:0.02"),
        "b_q": Param("d"),
        "K": Param("d d", init="normal:0.02"),
        "b_k": Param("d"),
        "V": Param("d d", init="custom"),
    }
    examples = {"law": ("pfeiffer", ["ffn_out"], {"m": 4}), "code": ("pfeiffer", ["ffn_out"], {"m": 5})}

    def combine(self, h: Tensor, x: Tensor, branches: Mapping[str, Tensor], p: Live, cfg: Config) -> Tensor:
        import torch
        from torch.nn.functional import dropout, linear

        z = h + x if cfg.residual else x if cfg.reads else h
        z = p.call(cfg.calls, z) if cfg.calls else z
        a = torch.stack(list(branches.values()), -2)  # (..., n, d)
        scores = linear(a, p["K"], p["b_k"]) @ linear(z, p["Q"], p["b_q"])[..., None]
        s = dropout(scores[..., 0], cfg.dropout, p.training).softmax(-1)
        return h + (s[..., None] * linear(a, p["V"])).sum(-2)

    def at_place(self, place: Target, children: Adapter, values: dict[str, Any]) -> dict[str, Any]:
        """What is read there, as the adapters read it."""
        here = [part.targets[place.path].config for part in children.parts.values() if place.path in part.targets]
        said = [{name: config[name] for name in READ if name in config} for config in here]
        return {**values, **said[0]} if all(one == said[0] for one in said) else values

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        import torch

        one = torch.eye(target.shape[0], device=made["Q"].device)
        return {"V": one + 1e-6 * (1 - one)}

    def penalty(self, session: Session) -> Tensor | float:
        import torch

        V = [state["V"] for state in session.states.values()]
        return self.config(session.adapter.config).regularise * sum(
            ((torch.eye(len(v), device=v.device) - v) ** 2).sum() for v in V
        )
