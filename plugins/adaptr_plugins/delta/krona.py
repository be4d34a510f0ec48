"""KronA: W' = W + s A ⊗ B.  Edalati et al. 2022, arXiv:2212.10650.

A is (a1, a2) and B (b1, b2, *k), with out = a1 b1 and in = a2 b2, both full: fewest numbers where the two are of one
size, so a1 is the smaller factor of out and a2 the larger one of in. Sizes are stored. Fresh, B is zero and A is not;
which of the two the paper has at zero is not confirmed ([M]).

Choose it where a few thousand numbers should reach a full rank, as LoKr with both factors whole. It costs a product
with two small matrices. How much a layer can learn follows from its sizes alone: widths with few divisors give one
factor that is large and one that can say little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Delta, Dense, Kron, Param, Target
from adaptr.contract import Live
from adaptr.errors import phrases
from adaptr_plugins.delta.lokr import factors

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Config:
    s: float = 1.0
    a1: int = 1
    a2: int = 1
    b1: int = 1
    b2: int = 1


class KronA(Delta[Config]):
    name = "krona"
    params = {"A": Param("a1 a2", init="kaiming"), "B": Param("b1 b2 *k")}
    kinds = frozenset({"linear", "linear_t", "embedding", "conv1d", "conv2d", "conv3d"})
    targets = ("attn.q", "attn.v")
    as_stored = True

    def delta(self, p: Live, cfg: Config) -> Kron:
        return Kron(Dense(p["A"]), Dense(p["B"]), cfg.s)

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {**sizes(target.shape[0], target.shape[1]), **values}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        found = (cfg.a1 * cfg.b1, cfg.a2 * cfg.b2)
        if found != target.shape[:2]:
            raise phrases.misshapen(f"`krona`: A ⊗ B at `{target.path}`", found, target.shape[:2], by="by the weight")
        return {}


def sizes(out: int, into: int) -> dict[str, int]:
    """A and B for a matrix (out, in), near to each other in size."""
    (a1, b1), (b2, a2) = factors(out, -1), factors(into, -1)
    return {"a1": a1, "a2": a2, "b1": b1, "b2": b2}
