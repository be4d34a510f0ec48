"""LoRA Soups: W' = W + Σ a_i D_i with a_i learnt for each layer, the experts frozen.  Prabhakar et al. 2024,
arXiv:2410.13025.

What is learnt is a plain delta: merge it, or `adaptr convert --method lora` makes one LoRA of it, exactly. Not the
identity when fresh: each of n experts has the weight 1 / n.

Choose it for a task that needs two or three skills that adapters have already, with a few records of that task: it
learns one number for each and merges. Its mixture is the same for every token; where inputs need different experts take
`xlora`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from adaptr import Adapter, Gate, Param, Target
from adaptr.contract import Weighing

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Config:
    experts: list[str] = field(default_factory=list)


class LoRASoups(Gate[Config]):
    name = "lora-soups"
    unmergeable = ""
    possible = "keep it attached"
    rate = 1e-2
    params = {"a": Param("n", init="custom")}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        return {"n": len(cfg.experts)}

    def start(self, target: Target, children: Adapter, cfg: Config, generator: Generator | None) -> dict[str, Tensor]:
        import torch

        n = len(cfg.experts)
        return {"a": torch.full((n,), 1 / n, device="meta" if generator is None else None)}

    def mix(self, x: Tensor, p: Weighing, cfg: Config) -> Tensor:
        a: Tensor = p["a"]
        return a

    def fixed(self, adapter: Adapter, path: str) -> list[float]:
        return [float(a) for a in adapter.at(path)["a"]]
