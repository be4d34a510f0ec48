"""The kinds of place that an adapter can change. What a kind means is said here once, and asked of a `Target`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """`axes`: how many sizes its shape has. `matrix`: its weight is one, of logical shape (*e, out, in, *k), with
    experts before and a kernel behind. `vector`: it is a norm's, of shape (out). `weighted`: one of these, and can
    be changed. `transposed`: the weight is stored as (in, out). `stacked`: the first axis counts experts. `looked_up`:
    its input are indices, not features. `biased`: it can have a bias beside its weight.
    """

    axes: int
    matrix: bool = False
    vector: bool = False
    transposed: bool = False
    stacked: bool = False
    looked_up: bool = False
    biased: bool = False

    @property
    def weighted(self) -> bool:
        return self.matrix or self.vector


#: The one spelling of each, for who makes a target.
LINEAR, LINEAR_T, TABLE, NORM, PLACE = "linear", "linear_t", "embedding", "norm", "module"
ATTENTION, MODEL = "attention", "model"
EXPERTS, EXPERTS_T = "experts", "experts_t"

TABLE_OF: Mapping[str, Kind] = {
    LINEAR: Kind(2, matrix=True, biased=True),
    LINEAR_T: Kind(2, matrix=True, biased=True, transposed=True),  # Hugging Face's Conv1D
    TABLE: Kind(2, matrix=True, transposed=True, looked_up=True),
    "conv1d": Kind(3, matrix=True, biased=True),
    "conv2d": Kind(4, matrix=True, biased=True),
    "conv3d": Kind(5, matrix=True, biased=True),
    EXPERTS: Kind(3, matrix=True, stacked=True),
    EXPERTS_T: Kind(3, matrix=True, stacked=True, transposed=True),
    NORM: Kind(1, vector=True, biased=True),
    ATTENTION: Kind(2),
    PLACE: Kind(1),
    MODEL: Kind(1),
}

ALL = frozenset(TABLE_OF)
MATRIX = frozenset(name for name, kind in TABLE_OF.items() if kind.matrix)
#: Matrices, and the vectors that norms scale by.
WEIGHTED = frozenset(name for name, kind in TABLE_OF.items() if kind.weighted)
STACKS = frozenset(name for name, kind in TABLE_OF.items() if kind.stacked)
LAYERS = frozenset({LINEAR, LINEAR_T})
CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d"})
#: Weights with a bias beside them, and norms.
BIASED = frozenset(name for name, kind in TABLE_OF.items() if kind.biased)


def layer(transposed: bool = False) -> str:
    """The kind of a linear layer, by how its weight is stored."""
    return LINEAR_T if transposed else LINEAR


def convolution(axes: int) -> str:
    """The kind of a convolution whose kernel has so many axes."""
    return f"conv{axes}d"


def stack(transposed: bool) -> str:
    """The kind of a stack of experts, by how its weights are stored."""
    return EXPERTS_T if transposed else EXPERTS
