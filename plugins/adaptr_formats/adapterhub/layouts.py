"""Where AdapterHub's library puts things in a type of model, by paths within a layer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

#: Where a bottleneck is and which layers a LoRA changes, by the fields of a configuration.
ATTENTION, FEED_FORWARD, CROSS = "mh_adapter", "output_adapter", "cross_adapter"
SELF, INNER, OUTER = "selfattn_lora", "intermediate_lora", "output_lora"


@dataclass(frozen=True)
class Place:
    """`field`: what the configuration calls it. `tensors`: the module that has a bottleneck's. `at`: the module whose
    output it changes. `stream`: the module whose input goes around the block, "" where none has it. `norm`: what comes
    behind the sum of both, "" for nothing. `turned`: whether its library takes the two for each other, so that what it
    has behind the block is beside it. `same`: another module with that output, that newer transformers has.
    """

    field: str
    tensors: str
    at: str
    stream: str
    norm: str = ""
    turned: bool = False
    same: str = ""


@dataclass(frozen=True)
class Block:
    """Layers of one sort. `bottlenecks`: where these are. `factors`: the modules that LoRA changes, with the field of
    the configuration and the letter of an attention's. `attention`: the module that has a prefix's gates, where newer
    transformers has another one.
    """

    bottlenecks: tuple[Place, ...]
    factors: Mapping[str, tuple[str, str]]
    attention: str = ""


@dataclass(frozen=True)
class Model:
    """`named`: the class that AdapterHub has for it. `embeddings`: the module whose output the first layer gets, ""
    where it is none. `block`: its layers, of one with an encoder and a decoder the decoder's; `encoder`: its encoder's.
    `prefix`: what names of modules begin with in older transformers, and in newer not.
    """

    named: str
    embeddings: str
    block: Block
    encoder: Block | None = None
    prefix: str = ""

    def at(self, layer: str) -> Block:
        """What a layer is, by its path."""
        if self.encoder is not None and _ENCODER.search(layer):
            return self.encoder
        return self.block


_ENCODER = re.compile(r"(^|\.)encoder\.")
