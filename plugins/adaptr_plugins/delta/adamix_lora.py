"""AdaMix of LoRAs: W' = W + s B A_j, j drawn for each forward in training, the mean of all A afterwards.  Wang et al.
2022, arXiv:2205.12410.

Experts are the factors A, with one B for all, or with `share_up=False` one each, drawn apart from A. The loss is that
of `adamix`; the authors' code has its weight at 100, of eight experts of rank 4, for text from tables, which is where
these start. Finished, it is a LoRA of the experts' means, and until then that is what is attached; s is alpha / r.
Fresh all experts are alike, without which a mean means nothing, and B is zero, so that it is the identity.

Choose it where a LoRA learns few records too much by heart and each step may be two forwards: what is kept is a LoRA of
one rank that merges. With many records a LoRA is cheaper to train and does no worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr import Delta, LowRank, Param, Target, View
from adaptr.contract import Live, Mount
from adaptr_plugins.insert._mixing import drawing, meant, objective, of_forward

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from adaptr import Adapter
    from adaptr.contract import Run
    from adaptr.host import Session


@dataclass(frozen=True)
class Config:
    r: int = 4
    alpha: float = 32.0
    experts: int = 8
    consistency: float = 100.0
    share_up: bool = True


class AdaMixLoRA(Delta[Config]):
    name = "adamix-lora"
    params = {"A": Param("experts r in", init="kaiming"), "B": Param("ups out r")}
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q|attn.qkv", "attn.v|attn.qkv")
    rate = 2e-4
    small = {"r": 2, "experts": 2, "consistency": 1.0}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        return {"ups": 1 if cfg.share_up else cfg.experts}

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        return drawing(super().mounts(model, adapter), adapter.targets)

    def init(self, target: Target, base: View, generator: Generator | None) -> dict[str, Tensor]:
        made = super().init(target, base, generator)
        return {**made, "A": made["A"][:1].expand_as(made["A"]).clone()}

    def init_rule(self, param: str, target: Target) -> str:
        """The first axis counts experts and is not part of the fan."""
        return f"kaiming:{target.shape[1]}" if param == "A" else super().init_rule(param, target)

    def delta(self, p: Live, cfg: Config) -> LowRank:
        (A,), (B,) = of_forward(p, ("A",), 0), of_forward(p, ("B",), 1)
        return LowRank(B, A, cfg.alpha / cfg.r)

    def objective(self, session: Session, run: Run) -> Tensor:
        return objective(run, self.config(session.adapter.config))

    def finish(self, session: Session, adapter: Adapter) -> Adapter:
        return super().finish(session, meant(adapter, ("A", "B")))
