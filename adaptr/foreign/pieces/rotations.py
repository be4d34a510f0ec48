"""OFT and BOFT as LyCORIS writes them, of outputs: W' = diag(s) Rᵀ W and, of several factors, diag(s) R W.

R = (I + X - Xᵀ)(I - X + Xᵀ)⁻¹ of each block X that is stored. `alpha` is no scale here: times the number of outputs it
is the most that the norm of all X - Xᵀ together may be, 0 for any; what is above is taken down in reading. Blocks of
BOFT count their features turn by turn from the two halves that they mix, where adaptr's have one half behind the other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from adaptr.adapter import Target, kinds
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces import alphas
from adaptr.foreign.pieces.module import ALPHA, Layer, Module, complete

if TYPE_CHECKING:
    from torch import Tensor

BLOCKS, RESCALE = "oft_blocks", "rescale"
SLOTS = (BLOCKS, RESCALE)


def read(module: Module) -> Layer:
    """The method `oft`, or `boft` where there are several factors."""
    *count, b, other = module.shape(BLOCKS, (3, 4))
    module.require(BLOCKS, b == other and b > 1, "square blocks of at least 2")
    return _oft(module, count[0], b) if len(count) == 1 else _boft(module, count[0], count[1], b)


def _oft(module: Module, blocks: int, b: int) -> Layer:
    most = _most(module, blocks * b)

    def entries(X: Tensor) -> Tensor:
        return above(held(X, most))

    values = complete("oft", {"b": b, "side": "out", "rescale": module.has(RESCALE)})
    pieces = {"Q": Piece(module.keys[BLOCKS], (blocks, b * (b - 1) // 2), then=entries)}
    pieces |= {"s": module.piece(RESCALE, (blocks * b,))} if module.has(RESCALE) else {}
    return Layer("oft", _placed(module, blocks * b, values), pieces)


def _boft(module: Module, m: int, n: int, b: int) -> Layer:
    import torch

    even = b % 2 == 0 and m <= n.bit_length() and n % (1 << (m - 1)) == 0
    module.require(BLOCKS, even, "even blocks, whose number 2^(factors - 1) divides")
    most = _most(module, n * b)
    order = from_halves(b)

    def factors(X: Tensor) -> Tensor:
        return -2 * held(X, most)[..., order, :][..., order]

    values = complete("boft", {"b": b, "n": n, "m": m, "side": "out"})
    ones = Piece("", (n * b,), value=torch.ones(n * b, dtype=torch.float32))
    return Layer(
        "boft",
        _placed(module, n * b, values),
        {
            "Q": Piece(module.keys[BLOCKS], (m, n, b, b), then=factors),
            "s": module.piece(RESCALE, (n * b,)) if module.has(RESCALE) else ones,
        },
    )


def _placed(module: Module, out: int, values: dict[str, object]) -> Target:
    """The layer, of which the file has the outputs, and the kernel's axes where these have factors."""
    axes = len(module.shapes[RESCALE]) - 2 if module.has(RESCALE) else 0
    if module.has(RESCALE):
        sizes = module.shape(RESCALE, (2, 3, 4, 5))
        module.require(RESCALE, sizes == (out, *(1 for _ in sizes[1:])), f"({out}, 1), with a 1 for each axis")
    if axes:
        shape = (out, 0, *(0 for _ in range(axes)))
        return placing.agreed(module.model, Target(module.path, kinds.convolution(axes), shape, values))
    return placing.flattened(module.model, Target(module.path, kinds.LINEAR, (out, 0), values))


def _most(module: Module, out: int) -> float:
    """The constraint, 0 for none."""
    return max(alphas.number(module.file, module.keys[ALPHA]) * out, 0.0) if module.has(ALPHA) else 0.0


def held(X: Tensor, most: float) -> Tensor:
    """X, in fp32 or better, made so small that the norm of X - Xᵀ is at most `most`."""
    from adaptr.precision import wide

    X = wide(X if X.is_floating_point() else X.float())
    S = (X - X.mT).double().flatten()
    norm = math.sqrt(math.fsum((S * S).tolist())) if most > 0 else 0.0
    return (X.double() * (most / norm)).to(X.dtype) if norm > most else X


def above(X: Tensor) -> Tensor:
    """The entries of Xᵀ - X above the diagonal."""
    import torch

    i, j = torch.triu_indices(X.shape[-1], X.shape[-1], 1)
    return (X.mT - X)[..., i, j]


def from_halves(b: int) -> list[int]:
    """Where the features of a block, one half behind the other, are in one that takes them turn by turn."""
    return [2 * (p % (b // 2)) + p // (b // 2) for p in range(b)]
