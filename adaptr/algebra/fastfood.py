"""Fastfood: what a fixed random projection makes of a few numbers, without its matrix.  Le, Sarlos and Smola 2013,
arXiv:1408.3060, as arXiv:2012.13255 uses it.

P z = s (H (g ∘ (H (b ∘ z))[π])) over L places, the power of two from `size` on, of which the first `size` are taken. H
is the Walsh-Hadamard transform, unnormalised, b signs, π a permutation, g nearly normal, and s = 1 / √(size Σ g²), so
that columns of P are about 1 long. z is filled up with zeros; of one longer than L the first L numbers count. g is the
sum of four whole numbers of 16 bits, so that all is the same on every machine: what is drawn is whole, and transforms
are sums of two.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from adaptr.algebra import stream
from adaptr.errors import phrases

#: What is subtracted from a sum of four numbers of 16 bits, and what it is divided by.
MEAN, SCALE = 2 * 0xFFFF, 2.0**-16


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def drawn(seed: int, name: str, size: int, n: int, sha256: str = "") -> Tensor:
    """π (L), s g (L) and b (n, or L), fp32 as their bits, one behind the other: (2 L + n) int32.

    Raises `DigestMismatch` if it is not what `sha256` promises.
    """
    L = length(size)
    order = torch.sort(stream.integers(seed, f"{name}.order", L), stable=True).indices
    bits = stream.integers(seed, f"{name}.gauss", L)
    g = (bits.unsqueeze(1) >> torch.tensor((0, 16, 32, 48)) & 0xFFFF).sum(1) - MEAN
    s = 1 / (math.sqrt(size * int((g * g).sum())) * SCALE)
    b = stream.signs(seed, f"{name}.sign", (min(n, L),))
    made = torch.cat([order.int(), (g.double() * SCALE * s).float().view(torch.int32), b.view(torch.int32)])
    if sha256 and digest(made) != sha256:
        raise phrases.drawn_otherwise(
            f"the numbers of `{name}` drawn from seed {seed}",
            digest(made),
            sha256,
            "write it with `adaptr convert --method full` where it was trained",
        )
    return made


def shaped(size: int, n: int) -> Tensor:
    """What is drawn, on the meta device: a weight of a large model takes seconds."""
    L = length(size)
    return torch.empty(2 * L + min(n, L), dtype=torch.int32, device="meta")


def projected(z: Tensor, made: Tensor, size: int) -> Tensor:
    """P z (size) of z (n), in the dtype of z; `made`: what was drawn."""
    L = length(size)
    order, g, b = made[:L], made[L : 2 * L].view(torch.float32), made[2 * L :].view(torch.float32)
    filled = torch.nn.functional.pad(b.to(z.dtype) * z[:L], (0, L - len(b)))
    mixed: Tensor = hadamard(hadamard(filled).index_select(0, order) * g.to(z.dtype))
    return mixed[:size]


# one operator, as compilers would unroll it, and autograd would keep each of its steps
@torch.library.custom_op("adaptr::hadamard", mutates_args=(), schema="(Tensor x) -> Tensor")
def hadamard(x: Tensor) -> Tensor:
    """H x of x (L), a power of two."""
    y, step = x.clone(), 1
    while step < len(y):
        pairs = y.view(-1, 2, step)
        less = pairs[:, 0] - pairs[:, 1]
        pairs[:, 0] += pairs[:, 1]
        pairs[:, 1] = less
        step *= 2
    return y


hadamard.register_fake(torch.empty_like)
hadamard.register_autograd(lambda context, grad: hadamard(grad))  # H is symmetric


def length(size: int) -> int:
    """L."""
    return 1 << (size - 1).bit_length()


def digest(made: Tensor) -> str:
    """sha256 over the bytes of what was drawn."""
    return hashlib.sha256(made.numpy().tobytes()).hexdigest()
