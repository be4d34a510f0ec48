"""Poly: W' = W + B_t A_t / r for a task t, its factors a mean of those of some skills.  Ponti et al. 2022,
arXiv:2202.13914.

A_t is Σ w_s A_s and B_t is Σ w_s B_s, with w = sigmoid(Z_t) / Σ sigmoid(Z_t): a LoRA for each of `tasks`, all of one
stock of `skills`. With `splits` above 1 (MHR, arXiv:2211.03831) each part of the input and of the output is mixed by
weights of its own. An adapter does what it does for `task`, and trains for it; the others' rows of Z stay. In training
the weights are drawn about where they are (a relaxed Bernoulli distribution of temperature 1).

Choose it for several tasks that share skills, where a LoRA for each would learn these again. It is as large as `skills`
LoRAs; a task is chosen when it is loaded, and is a LoRA then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr import Delta, LowRank, Param, Target
from adaptr.contract import Live
from adaptr.errors import BadConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    r: int = 8
    tasks: int = 1
    skills: int = 4
    splits: int = 1
    task: int = 0


class Poly(Delta[Config]):
    name = "poly"
    params = {
        "A": Param("splits skills cols r", init="uniform"),
        "B": Param("splits skills r rows"),
        "Z": Param("tasks mixed", init="uniform:0.001"),
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q", "attn.v")
    small = {"r": 2, "skills": 2, "splits": 2}

    def delta(self, p: Live, cfg: Config) -> LowRank:
        import torch

        w = weights(p["Z"][cfg.task].view(cfg.splits, cfg.skills), p.training)
        A = torch.einsum("qs,qsir->rqi", w, p["A"]).flatten(1)
        B = torch.einsum("qs,qsro->qor", w, p["B"]).flatten(0, 1)
        return LowRank(B, A, 1 / cfg.r)

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        out, into = target.shape
        if out % cfg.splits or into % cfg.splits or not 0 <= cfg.task < cfg.tasks:
            raise BadConfig(
                "`poly`: `splits` and `task`",
                got=f"{cfg.splits} and {cfg.task}",
                want=f"a divisor of {out} and {into}, the sides of `{target.path}`, and one of {cfg.tasks} from 0 on",
            )
        return {"cols": into // cfg.splits, "rows": out // cfg.splits, "mixed": cfg.splits * cfg.skills}

    def init_rule(self, param: str, target: Target) -> str:
        cols = self.axes(target, self.config(target.config))["cols"]
        return f"uniform:{cols**-0.5}" if param == "A" else super().init_rule(param, target)


def weights(Z: Tensor, drawn: bool) -> Tensor:
    """w (splits, skills) of their logits."""
    import torch

    if drawn:
        u = torch.rand_like(Z).clamp(1e-6, 1 - 1e-6)
        Z = Z + u.log() - (-u).log1p()
    share = Z.sigmoid()
    return share / (share.sum(-1, keepdim=True) + 1e-12)
