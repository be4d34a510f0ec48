"""MAM: a prefix on every attention and a scaled parallel adapter on every feed-forward.  He et al. 2021,
arXiv:2110.04366.

Not the identity when fresh: the prefix is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from adaptr import Composite


@dataclass(frozen=True)
class Config:
    tokens: int = 30
    m: int = 512
    s: float = 4.0


class MAM(Composite[Config]):
    name = "mam"
    small = {"m": 8, "tokens": 3}

    def parts(self, cfg: Config) -> Any:
        return {
            "prefix": ("prefix", None, {"tokens": cfg.tokens}),
            "parallel": ("parallel", None, {"m": cfg.m, "s": cfg.s}),
        }
