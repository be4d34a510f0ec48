"""Random numbers whose stream never changes: SplitMix64 in counter mode, on any device, with any number of threads.

The n-th number of a stream depends on (seed, name, n) alone. Integers are exact everywhere; uniforms are 53-bit
integers over 2⁵³, exact in fp64. torch's and numpy's own streams are promised neither across versions nor devices.
SplitMix64: Steele, Lea and Flood 2014; the constants are those of its finaliser.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

GAMMA = 0x9E3779B97F4A7C15
MIX = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
SHIFTS = (30, 27, 31)
PIECE = 1 << 14


def integers(seed: int, name: str, n: int, start: int = 0) -> Tensor:
    """`n` numbers of 64 random bits (n,) int64, from the `start`-th of the stream on."""
    import numpy as np
    import torch

    # in place, and in pieces that stay in the cache: what each step would allocate costs more than the step
    z = np.arange(start + 1, start + n + 1, dtype=np.uint64)
    gamma, key = np.uint64(GAMMA), np.uint64(_key(seed, name))
    shifted = np.empty(min(n, PIECE), dtype=np.uint64)
    for at in range(0, n, PIECE):
        part = z[at : at + PIECE]
        part *= gamma
        part += key
        _mix(part, shifted[: len(part)])
    return torch.from_numpy(z.view(np.int64))


def _mix(z: NDArray[np.uint64], shifted: NDArray[np.uint64]) -> None:
    """SplitMix64's finaliser, in place; `shifted` is room for as many numbers."""
    import numpy as np

    for bits, factor in zip(SHIFTS, MIX, strict=False):
        np.right_shift(z, np.uint64(bits), out=shifted)
        z ^= shifted
        z *= np.uint64(factor)
    np.right_shift(z, np.uint64(SHIFTS[-1]), out=shifted)
    z ^= shifted


def uniform(seed: int, name: str, shape: tuple[int, ...], start: int = 0) -> Tensor:
    """fp64 in [0, 1), multiples of 2⁻⁵³, in C order."""
    return (_shifted(integers(seed, name, math.prod(shape), start), 11).double() * 2.0**-53).view(shape)


def signs(seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
    """fp32, -1 or 1."""
    return (integers(seed, name, math.prod(shape)) < 0).float().mul_(2).sub_(1).view(shape)


def choose(seed: int, name: str, n: int, k: int) -> Tensor:
    """`k` different numbers below `n`, increasing, (k,) int64: the first `k` different ones that the stream draws.

    Where `k` is more than half of `n`, those that the stream draws first are left out.
    """
    import torch

    if 2 * k > n:
        kept = torch.ones(n, dtype=torch.bool)
        kept[choose(seed, name, n, n - k)] = False
        return kept.nonzero().squeeze(-1)
    draws = 2 * k
    while True:
        drawn = (uniform(seed, name, (draws,)) * n).long()
        ranked, order = torch.sort(drawn, stable=True)
        new = torch.ones(draws, dtype=torch.bool)
        new[1:] = ranked[1:] != ranked[:-1]
        first = torch.sort(order[new]).values
        if len(first) >= k:
            return torch.sort(drawn[first[:k]]).values
        draws *= 2


def _key(seed: int, name: str) -> int:
    """Where a stream starts: one of 2⁶⁴ places, by digest."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "little")


def _shifted(z: Tensor, bits: int) -> Tensor:
    """A logical shift to the right; torch's own keeps the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
