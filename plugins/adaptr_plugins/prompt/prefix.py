"""Prefix tuning: softmax over [K; K(x)], values [V; V(x)] in every attention.  Li and Liang 2021, arXiv:2101.00190.

K and V (h, tokens, d) are keys and values as after the position encoding. With `mlp` they are, while they learn, an
affine map of tanh(W Z + w), Z (tokens, width) and W (mlp, width) being one for all attentions, or for each of the three
sorts of an encoder-decoder: the paper's reparametrisation, of which `finish` leaves K and V; without, they are trained
as they are. `position_offset` says how they were trained: `none` (text at positions 0, 1, ...) or `shift` (through the
cache, text from position `tokens` on); both are applied as what they are. Not the identity when fresh: columns that are
attended to change what is attended.

Choose it to steer generation with the weights untouched, with thousands of records and time: it learns slowly, wants a
high rate, and gains little on small models. Its rows take places in the attention of every layer; it can't be merged.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Param, Prefix, Target, targets
from adaptr.contract import Costs, Live
from adaptr.contract.capabilities import CACHE
from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    tokens: int = 10
    position_offset: Literal["none", "shift"] = "none"
    mlp: int = 0
    dropout: float = 0.0
    width: int = 1
    groups: int = 1
    group: int = 0


class PrefixTuning(Prefix[Config]):
    name = "prefix"
    small = {"tokens": 3}
    params = {
        "K": Param("h tokens d", init="normal:1", unless="mlp"),
        "V": Param("h tokens d", init="normal:1", unless="mlp"),
        "Z": Param("groups tokens width", init="normal:1", when="mlp", shared=True),
        "W": Param("groups mlp width", when="mlp", shared=True),
        "w": Param("groups mlp", when="mlp", shared=True),
        "A": Param("h d mlp", when="mlp"),
        "a": Param("h d", when="mlp"),
        "B": Param("h d mlp", when="mlp"),
        "b": Param("h d", when="mlp"),
    }
    least = {"mlp": 0}
    default_for = frozenset({CACHE})
    plain = {"mlp": 0, "width": 1, "groups": 1, "group": 0}

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        if not values.get("mlp"):
            return values
        return {"width": targets.hidden_size(model), "groups": len({_sort(place.path) for place in places}), **values}

    def together(self, model: nn.Module, places: Sequence[Target]) -> Sequence[Target]:
        sorts = list(dict.fromkeys(_sort(place.path) for place in places))
        return [
            replace(one, config={**one.config, "group": sorts.index(_sort(one.path)) if one.config["mlp"] else 0})
            for one in places
        ]

    def init_rule(self, param: str, target: Target) -> str:
        """Of the network as torch begins it."""
        if param in "KVZ":
            return self.params[param].init
        return f"kaiming:{target.config['width' if param in 'Ww' else 'mlp']}"

    def keys_values(self, p: Live, cfg: Config) -> tuple[Tensor, Tensor]:
        K, V = p.derived("KV", p.sources(1.0), lambda: computed(p, cfg)) if cfg.mlp else (p["K"], p["V"])
        if cfg.dropout and p.training:
            from torch.nn.functional import dropout

            K, V = dropout(K, cfg.dropout), dropout(V, cfg.dropout)
        return wide(K), V

    def costs(self, target: Target, cfg: Config) -> Costs:
        both = 2 * cfg.tokens * math.prod(target.shape)
        return Costs(columns=cfg.tokens, once=both * bool(cfg.dropout) + cfg.tokens * cfg.mlp)


def computed(p: Live, cfg: Config) -> Tensor:
    """K and V (2, h, tokens, d) of what they are computed of."""
    import torch

    x = torch.tanh(p["Z"][cfg.group] @ p["W"][cfg.group].mT + p["w"][cfg.group])
    return torch.stack([x @ p[m].mT + p[c][:, None] for m, c in ("Aa", "Bb")])


def _sort(path: str) -> str:
    """Which of a model's attentions this is one of: its path without the numbers."""
    return re.sub(r"\d+", "#", path)
