"""LLaMA-Adapter v2: gated prompts at the topmost attentions, scales and biases of all linear layers, weights of norms.
Gao et al. 2023, arXiv:2304.15010.

y = s (W x + b) + t in each linear layer, norms trained whole, and `llama-adapter`; fresh, all of it is the identity. 31
layers of prompts are the repository's for pictures. Pictures fused into the first layers are not here: features of
another network would be an argument of each forward, which no Llama of transformers takes, and models there that take
pictures (LLaVA and its kin) have them among the tokens already, by a projector that is theirs. Nor is training by turns
on two sorts of data of which each learns some of the parts.

Choose it over `llama-adapter` where gated prompts alone learn too little of how to answer: three times as many
numbers, still below LoRA's. It can't be merged: its prompts can't.
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
    tokens: int = 10
    layers: int = 31


class LlamaAdapterV2(Composite[Config]):
    name = "llama-adapter-v2"
    identity = True
    small = {"tokens": 3}
    kept_within = 0.05

    def parts(self, cfg: Config) -> Mapping[str, tuple[str, Spec, Mapping[str, Any]]]:
        return {
            "prompts": ("llama-adapter", None, {"tokens": cfg.tokens, "layers": cfg.layers}),
            "scales": ("scale-shift", None, {"shift": "always"}),
            "norms": ("ln-tuning", None, {}),
        }
