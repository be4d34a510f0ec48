"""What a model is made of, as far as memory and work follow from it: blocks, widths, the head."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from adaptr import roles
from adaptr.adapter import Target
from adaptr.adapter.kinds import LAYERS, MATRIX, NORM
from adaptr.planning.foundation import Foundation
from adaptr.targets import is_head, resolve

#: The part of a path up to the number of its block.
BLOCK = re.compile(r"(.*?\.\d+)(?=\.|$)")
ATTENTION = ("attn.q", "attn.k", "attn.v", "attn.qkv")
#: Where in a block a place is, by what runs from there on: see `Block.start`.
INPUT, PROJECTED, ATTENDED, FEED, DOWN, END = range(6)


@dataclass(frozen=True)
class Layer:
    target: Target
    bias: bool

    @property
    def path(self) -> str:
        return self.target.path

    @property
    def numbers(self) -> int:
        return math.prod(self.target.shape) + (self.target.shape[0] if self.bias else 0)

    @property
    def norm(self) -> bool:
        return self.target.kind == NORM


@dataclass(frozen=True, eq=False)
class Block:
    """One of the layers that a model repeats. `d`: its width."""

    path: str
    layers: tuple[Layer, ...]
    d: int

    @functools.cache  # noqa: B019 - as many as the model has blocks, which are as short-lived as it
    def having(self, *names: str) -> list[Layer]:
        return [one for one in self.layers if any(roles.has(one.path, name) for name in names)]

    @functools.cached_property
    def norms(self) -> list[Layer]:
        return [one for one in self.layers if one.norm]

    @functools.cached_property
    def outs(self) -> list[Layer]:
        """The output layers of its attentions, one each."""
        return self.having("attn.o")

    @functools.cached_property
    def downs(self) -> list[Layer]:
        return self.having("mlp.down")

    @functools.cached_property
    def feeds(self) -> list[Layer]:
        """The matrices that are in no attention: the feed-forward's, but its last."""
        inside = {id(one) for one in (*self.having(*ATTENTION), *self.outs, *self.downs, *self.norms)}
        return [one for one in self.layers if id(one) not in inside]

    def start(self, path: str) -> int:
        """From where in the block gradients are wanted if what is at `path` learns."""
        if any(roles.has(path, name) for name in ATTENTION) or re.search(r"attn$|attention$|attention\.self$", path):
            return PROJECTED
        if roles.has(path, "attn.o") or any(re.fullmatch(roles.compiled(p), path) for p in roles.PLACES["attn_out"]):
            return ATTENDED
        if roles.has(path, "mlp.down"):
            return DOWN
        if any(path == one.path for one in self.feeds):
            return FEED
        return INPUT if any(path == one.path for one in self.norms) else END


@dataclass(frozen=True)
class Structure:
    """`total`: its parameters, tied ones once. `head`: its output head, None for a model without one."""

    total: int
    width: int
    blocks: tuple[Block, ...]
    outside: tuple[Layer, ...]
    head: Layer | None

    @property
    def layers(self) -> list[Layer]:
        return [*(one for block in self.blocks for one in block.layers), *self.outside]

    def number(self, path: str) -> int:
        """The block of a path: -1 for what comes before all, their count for what comes behind."""
        found = BLOCK.match(path)
        if found and found[1] in self._numbers:
            return self._numbers[found[1]]
        last = self.head is not None and path == self.head.path
        return len(self.blocks) if last or (path.rpartition(".")[2] in {"norm", "ln_f"} and path) else -1

    @functools.cached_property
    def packed(self) -> tuple[int, int]:
        """How many numbers are packed where the base is quantised, those of linear layers but the head and without
        biases, and how many the largest of these layers has.
        """
        layers = [one for one in self.layers if one.target.kind in LAYERS and one is not self.head]
        weights = sum(one.numbers - one.bias * one.target.shape[0] for one in layers)
        return weights, max((one.numbers for one in layers), default=0)

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {block.path: number for number, block in enumerate(self.blocks)}


def structure(base: Foundation) -> Structure:
    """Read from names and shapes alone."""
    model: Any = base.model
    found = [_layer(model, target) for target in resolve(model, "re:.*", MATRIX | {NORM})]
    grouped: dict[str, list[Layer]] = {}
    for layer in found:
        name = BLOCK.match(layer.path)
        grouped.setdefault(name[1] if name else "", []).append(layer)
    outside = grouped.pop("", [])
    modules = (one for one in outside if not one.norm and not one.target.stacked)  # ViT's `cls_token` is none
    head = next((one for one in modules if is_head(model, one.path)), None)
    width = max((one.target.shape[0] for one in (*outside, *found) if one.norm), default=0) or _width(base)
    blocks = tuple(Block(path, tuple(layers), _own(layers, width)) for path, layers in grouped.items())
    return Structure(sum(p.numel() for p in model.parameters()), width, blocks, tuple(outside), head)


def _layer(model: Any, target: Target) -> Layer:
    if target.stacked:
        return Layer(target, False)
    return Layer(target, model.get_submodule(target.path)._parameters.get("bias") is not None)


def _own(layers: Sequence[Layer], width: int) -> int:
    """The width of a block: of its widest norm that is no attention's, or the model's."""
    return max((one.target.shape[0] for one in layers if one.norm and "attn" not in one.path), default=width)


def _width(base: Foundation) -> int:
    return int(base.said("hidden_size", "d_model", "n_embd", "dim") or 0)
