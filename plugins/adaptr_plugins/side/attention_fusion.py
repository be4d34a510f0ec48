"""Attention fusion: u = Σ a_l h_l in the last block's place, a = softmax(q · LN(h_l) / tau) over l.  Cao, Prakash and
Hamza 2022, Findings of NAACL (doi 10.18653/v1/2022.findings-naacl.64; no arXiv id found).

A reconstruction (R): of the paper the abstract alone was read, which says token-wise attention over a frozen encoder's
layers, late, with 0.0009 % trained. Here there is one query q (d), what the first block is given is the first of the
h_l, a norm LN without weights comes before it scores (`norm`), and all that follows the last block, its norm and head,
sees u. With a trained head of two classes (`also=["head"]`) a model of width 1024 has 3074 numbers: that share. q
starts at zero, which is the mean of all blocks, and so not the identity.

Choose it to classify with many tasks on one frozen encoder: one pass of it serves all of them, nothing of it is kept
for the backward, and a task is a vector and a head. It can't be merged, and learns far less than what changes the
model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr import Param, Target
from adaptr.contract import Costs, Live
from adaptr.families.side import Side, read
from adaptr_plugins.side._fused import fused

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    tau: float = 1.0
    norm: bool = True


class AttentionFusion(Side[Config]):
    name = "attention-fusion"
    params = {"q": Param("d", shared=True)}
    small = {"tau": 0.5}
    rate = 1e-2

    def costs(self, target: Target, cfg: Config) -> Costs:
        return Costs(token=(2 + cfg.norm) * target.shape[0], flops=2 * target.shape[0], apart=True)

    def tap(self, h: Tensor, p: Live, cfg: Config) -> None:
        p.context.put((self.name, p.place), read(h, p))

    def last(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        below = [t.to(h.dtype) for key, t in p.context.taps.items() if isinstance(key, tuple) and key[0] == self.name]
        return fused([x, *below, h], p["q"], cfg.tau, cfg.norm)
