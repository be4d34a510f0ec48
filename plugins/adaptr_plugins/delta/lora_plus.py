"""LoRA+: W' = W + s B A, B learning `ratio` times as fast as A.  Hayou et al. 2024, arXiv:2402.12354.

The paper's ratio is about 2⁴ (not confirmed); its larger values go with a smaller rate of A. As in the authors' code, B
and biases learn at `ratio` times the rate, biases without decay, and look-up tables at `embedding` times it, where the
code has a fixed 1e-6, which that is of 2e-4.

Choose it for wide models and short trainings: the zero factor learns faster, which costs nothing. Its rate is that of
A, some five times below LoRA's; with LoRA's own it overshoots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.contract import Group
from adaptr_plugins.delta import _factors

if TYPE_CHECKING:
    from torch import nn

    from adaptr.host import Session


@dataclass(frozen=True)
class Config(_factors.Config):
    ratio: float = 16.0
    embedding: float = 0.005


class LoRAPlus(_factors.Plain[Config]):
    name = "lora-plus"
    rate = 2e-4
    small = {"r": 2, "alpha": 2.0}

    def groups(self, session: Session) -> Sequence[Group]:
        found: dict[tuple[float, float], list[nn.Parameter]] = {}
        for key, parameter in session.named().items():
            path, _, name = key.rpartition(":")
            target = session.adapter.targets.get(path)
            if target is None:  # a parameter that is trained whole
                found.setdefault((1.0, 1.0), []).append(parameter)
                continue
            cfg = self.config(target.config)
            rate = cfg.embedding if target.looked_up else 1.0 if name == "A" else cfg.ratio
            found.setdefault((rate, 1.0 if name != "b" else 0.0), []).append(parameter)
        return [Group(params, rate, decay) for (rate, decay), params in found.items()]
