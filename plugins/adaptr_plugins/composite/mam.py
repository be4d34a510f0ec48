"""MAM: a prefix on every attention and a scaled parallel adapter on every feed-forward.  He et al. 2021,
arXiv:2110.04366.

Not the identity when fresh: the prefix is not.

Choose it where quality at a few per cent of the weights counts more than speed: in the paper it came near to full
fine-tuning of summaries and translations. Its prefix takes places in every attention, and it can't be merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Composite

if TYPE_CHECKING:
    from adaptr.targets import Spec


@dataclass(frozen=True)
class Config:
    tokens: int = 30
    m: int = 512
    s: float = 4.0


class MAM(Composite[Config]):
    name = "mam"
    small = {"m": 8, "tokens": 3}

    def parts(self, cfg: Config) -> Mapping[str, tuple[str, Spec, Mapping[str, Any]]]:
        return {
            "prefix": ("prefix", None, {"tokens": cfg.tokens}),
            "parallel": ("parallel", None, {"m": cfg.m, "s": cfg.s}),
        }
