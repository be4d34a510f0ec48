"""P-tuning v2: softmax over [K; K(x)], values [V; V(x)] in every attention, with the task's own head.  Liu et al. 2021,
arXiv:2110.07602.

Prefixes for understanding: small when fresh, with dropout, without the reparametrisation unless `mlp` asks for it, and
beside a head that is trained whole (`also`, where the task does not bring one). The deviation of 0.02 at the start is
not confirmed as the authors'. Their own checkpoints went through the cache (`position_offset` shift), which takes
`tokens` of BERT's positions. Not the identity when fresh: columns that are attended to change what is attended.

Choose it for classifiers and taggers of encoders, with few tokens where the task is simple and about a hundred where it
is hard; the paper's rates are high, 0.005 and more. It can't be merged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from adaptr_plugins.prompt.prefix import Config as PrefixConfig
from adaptr_plugins.prompt.prefix import PrefixTuning


@dataclass(frozen=True)
class Config(PrefixConfig):
    tokens: int = 20
    dropout: float = 0.1


class PTuningV2(PrefixTuning):
    name = "p-tuning-v2"
    default_for = frozenset()
    Config = Config
    params = {
        **PrefixTuning.params,
        **{name: replace(PrefixTuning.params[name], init="normal:0.02") for name in "KV"},
    }
    rate = 5e-3
