"""What an adapter costs when it runs, by what its method can and says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from adaptr import plugins
from adaptr.contract import Costs
from adaptr.planning.structure import Structure


@dataclass(frozen=True)
class Overhead:
    """`flops`: of a token, beside the base's `own`; products of matrices alone. `mergeable`: into the base's weights,
    after which it costs nothing. `swappable`: as a row of a batch among other adapters. `context`: tokens and keys that
    each text is longer by. `cache`: numbers of keys and values for these, a text.
    """

    flops: int
    own: int
    mergeable: bool
    swappable: bool
    context: int
    cache: int

    @property
    def share(self) -> float:
        return self.flops / self.own if self.own else 0.0


def overhead(
    made: Structure, method: str, costs: Mapping[str, tuple[Costs, ...]], length: int, merges: bool
) -> Overhead:
    """Of a forward over `length` tokens. Full fine-tuning (no method) is the base itself, and a whole one for each."""
    own = 2 * sum(one.numbers for block in made.blocks for one in block.layers if not one.norm)
    own += 2 * made.head.numbers if made.head else 0
    if not method:
        return Overhead(0, own, True, False, 0, 0)
    every = [one for found in costs.values() for one in found]
    longer = max((one.longer for one in every), default=0)
    columns = max((one.columns for one in every), default=0)
    keys = _keys(made)
    flops = sum(one.flops for one in every) + own * longer // length + 4 * (longer + columns) * keys // 2
    can = plugins.method(method).can
    return Overhead(flops, own, merges, can.row, longer + columns, (longer + columns) * keys)


def _keys(made: Structure) -> int:
    """Numbers of keys and values, of all layers, that a token adds to the cache."""
    found = 0
    for block in made.blocks:
        for one in block.having("attn.k", "attn.v"):
            found += 0 if one.norm else one.target.shape[0]
        for one in block.having("attn.qkv"):
            found += one.target.shape[0] - block.outs[0].target.shape[1] if block.outs else 0
    return found
