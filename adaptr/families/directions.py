"""More bits for the larger singular directions of D = s B A: factors in their order, the first in a wider scheme.

What a direction loses is a share of itself, so few wide ones keep most of what a narrow scheme loses of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.adapter.dequantize import REST
from adaptr.algebra.lowrank import LowRank
from adaptr.errors import NotPossible
from adaptr.families import encoding, fidelity
from adaptr.families.quantized import own_axes

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter, Target
    from adaptr.families.base import Method

#: Pairs of schemes, of the larger directions and of the rest.
PAIRS = (("int8", "int4-g32"), ("int8", "nf4"), ("fp16", "int8"), ("fp16", "int4-g32"))


def within(method: Method, adapter: Adapter, error: float) -> Iterator[tuple[str, Adapter]]:
    """`adapter`, which has one target, for each pair of schemes with the fewest wide directions that the error allows;
    none where it is more than a product of two factors.
    """
    found = _ordered(method, adapter)
    if found is None:
        return
    for wide, narrow in PAIRS:
        made = _fewest(found, wide, narrow, error)
        if made is not None:
            yield encoding.MIXED, made


@dataclass(frozen=True)
class Ordered:
    """An adapter at its target, and its factors by name in the order of their directions, of which there are `rank`."""

    method: Method
    adapter: Adapter
    target: Target
    factors: dict[str, Tensor]
    rank: int

    def split(self, count: int, wide: str, narrow: str) -> Adapter:
        """The first `count` directions in a wide scheme, the others in a narrow one, and the error that has."""
        path = self.target.path
        tensors = {key: t for key, t in self.adapter.tensors.items() if key.rpartition(":")[2] not in self.factors}
        for name, tensor in self.factors.items():
            own = own_axes(self.method, name, self.target)
            first, rest = tensor.tensor_split([count], dim=own[-1])
            for part, scheme, end in ((first, wide, ""), (rest, narrow, REST)):
                stored = encoding.stored(part.contiguous(), scheme, own)
                tensors |= {f"{path}:{name}{end}{suffix}": value for suffix, value in stored.items()}
        made = self.adapter.replace(tensors=tensors, quantization={"scheme": encoding.MIXED})
        said = fidelity.declared(self.method, self.adapter, made)
        return made.replace(quantization={"scheme": encoding.MIXED, **said})


def _ordered(method: Method, adapter: Adapter) -> Ordered | None:
    (target,) = adapter.targets.values()
    names = method.factors(method.config(target.config))
    if names is None:
        return None
    p, (second, first, _) = adapter.at(target.path), names
    D = LowRank(p[second].float(), p[first].float())
    rank = D.A.shape[1 if D.experts else 0]
    if rank > min(D.size):  # fewer directions than terms: another shape
        return None
    low, _ = D.truncate(rank)
    return Ordered(method, adapter, target, {first: low.A, second: low.B}, rank)


def _fewest(found: Ordered, wide: str, narrow: str, error: float) -> Adapter | None:
    """By halving: more wide directions lose less. Halves of equal length are not told apart, so there are none."""
    counts = [count for count in range(1, found.rank) if 2 * count != found.rank]
    best = None
    while counts:
        middle = len(counts) // 2
        try:
            made = found.split(counts[middle], wide, narrow)
        except NotPossible:  # what changes nothing would change something
            return None
        fits = made.quantization["error"] <= error
        best, counts = (made, counts[:middle]) if fits else (best, counts[middle + 1 :])
    return best
