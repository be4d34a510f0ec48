"""UniPELT: LoRA beside queries and values, a prefix and a bottleneck, each times a gate σ(g x + c) of its own.  Mao et
al. 2022, arXiv:2110.07577.

In encoders a gate is the mean over a text's tokens without padding, as of `of="text"`; in models that generate each
token has its own (`"token"`), which is exact behind a cache. The prefix is flat, without the paper's network that makes
it. Not the identity when fresh: the prefix is not.

Choose it where it is not known which of the three suits a task and records are few: in the paper it came out at or
above the best of them. It costs all three, and can't be merged, LoRA's part too, as the gates are others for each
input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Composite

if TYPE_CHECKING:
    from adaptr.targets import Spec


@dataclass(frozen=True)
class Config:
    m: int = 48
    r: int = 8
    tokens: int = 10
    of: Literal["auto", "text", "token"] = "auto"


class UniPELT(Composite[Config]):
    name = "unipelt"
    rate = 5e-4
    kept_within = 0.05
    small = {"m": 8, "r": 4, "tokens": 3}

    def parts(self, cfg: Config) -> Mapping[str, tuple[str, Spec, Mapping[str, Any]]]:
        return {
            "lora": ("gated-lora", None, {"r": cfg.r, "of": cfg.of}),
            "prefix": ("gated-prefix", None, {"tokens": cfg.tokens, "of": cfg.of}),
            "adapter": ("gated-pfeiffer", None, {"m": cfg.m, "of": cfg.of}),
        }
