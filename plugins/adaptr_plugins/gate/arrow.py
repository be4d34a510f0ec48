"""Arrow: y = base(x) + Σ s_i D_i x, s = softmax over the `top_k` largest |v_i x|, v_i the direction that D_i stretches
most.  Ostapenko et al. 2024, arXiv:2405.11157.

Nothing is trained: v_i is the top right singular vector of the expert's delta at that layer. Never the identity: the
weights of the chosen experts sum to 1.

Choose it to use experts that are there together without training anything or any data: each token goes to those that
stretch it most. All experts stay attached, and where they do not differ in what they stretch, its choice is arbitrary:
`lora-soups` or `xlora` learn it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptr import Adapter, Gate, Param, Target, plugins
from adaptr.contract import Weighing
from adaptr.errors import BadConfig

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Config:
    experts: list[str] = field(default_factory=list)
    top_k: int = 2
    temperature: float = 1.0


class Arrow(Gate[Config]):
    name = "arrow"
    kinds = frozenset({"linear", "linear_t"})
    params = {"v": Param("n in", init="custom", trains=False)}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        if cfg.temperature <= 0 or cfg.top_k < 1:
            raise BadConfig(
                "`arrow`", verb="has", got=f"temperature {cfg.temperature:g}, top_k {cfg.top_k}", want="them above 0"
            )
        return {"n": len(cfg.experts)}

    def start(self, target: Target, children: Adapter, cfg: Config, generator: Generator | None) -> dict[str, Tensor]:
        import torch

        v = torch.zeros(self.shapes(target)["v"], device="meta" if generator is None else None)
        for i, name in enumerate(cfg.experts if generator is not None else ()):
            part = children.part(name)
            if target.path in part.targets:
                own = part.targets[target.path]
                method: Any = plugins.method(part.method)
                nearest, _ = method.operator(own, part.at(target.path)).truncate(rank=1)
                v[i] = torch.nn.functional.normalize(nearest.A.flatten().float(), dim=0)
        return {"v": v}

    def mix(self, x: Tensor, p: Weighing, cfg: Config) -> Tensor:
        v: Tensor = p["v"]
        likeness = (x.to(v.dtype) @ v.t()).abs()
        absent = [i for i in range(p.count) if i not in p.present]
        if absent:
            likeness[..., absent] = float("-inf")
        best, places = likeness.topk(min(cfg.top_k, len(p.present)), dim=-1)
        return likeness.new_zeros(likeness.shape).scatter(-1, places, (best / cfg.temperature).softmax(-1))
