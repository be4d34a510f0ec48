"""rsLoRA: W' = W + alpha / √r B A.  Kalajdzievski 2023, arXiv:2312.03732.

LoRA with a scale that does not make larger ranks learn less. The same tensors are a LoRA of alpha √r.

Choose it for LoRA with ranks of 32 and more, which by LoRA's own scale learn less the larger they are. The same alpha
is a much larger change than LoRA's: lower alpha or the rate, else training overshoots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from adaptr_plugins.delta import _factors


@dataclass(frozen=True)
class Config(_factors.Config):
    rslora: Literal[True] = True


class RsLoRA(_factors.Plain[Config]):
    name = "rslora"
    small = {"r": 2, "alpha": 2.0}
