"""Patches: any differences, back to the bit, and damage noticed."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adaptr.errors import DigestMismatch
from adaptr.merging import patch
from adaptr.merging.verify import bits

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "fp64": torch.float64}


def noise(numel: int, dtype: torch.dtype, seed: int) -> Tensor:
    """Any bits at all: NaN, infinities and both zeros among them."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (numel * dtype.itemsize,), dtype=torch.uint8, generator=generator).view(dtype)


def restored(true: Tensor, computed: Tensor, cuts: list[int]) -> Tensor:
    """`true`, by way of a patch made and applied in blocks."""
    edges = [0, *sorted(cuts), true.numel()]
    blocks = [slice(a, b) for a, b in pairwise(edges)]
    wrong = patch.Differences()
    for s in blocks:
        wrong.add(true[s].clone(), computed[s].clone(), s.start)
    found, out = patch.Patch(wrong.encode()), computed.clone()
    for s in blocks:
        found.apply(out[s], s.start)
    return out


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from(list(DTYPES.values())), st.integers(1, 400), st.integers(0, 2**31))
def test_any_differences_come_back(data: st.DataObject, dtype: torch.dtype, numel: int, seed: int) -> None:
    true = noise(numel, dtype, seed)
    computed = true.clone()
    hit = data.draw(st.sets(st.integers(0, numel - 1), max_size=40))
    if hit:
        where = torch.tensor(sorted(hit))
        computed[where] = noise(numel, dtype, seed + 1)[where]
    cuts = data.draw(st.lists(st.integers(0, numel), max_size=4))
    assert torch.equal(bits(restored(true, computed, cuts)), bits(true))


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(list(DTYPES.values())),
    st.lists(st.sampled_from([0, 1, 254, 255, 256, 65534, 65535, 65536, 131070, 200000]), min_size=1, max_size=4),
)
def test_gaps_of_any_length(dtype: torch.dtype, gaps: list[int]) -> None:
    where = torch.tensor([gap + 1 for gap in gaps]).cumsum(0) - 1
    true = torch.zeros(int(where[-1]) + 1 + gaps[0], dtype=dtype)
    computed = true.clone()
    computed[where] = 1.5
    cuts = [int(where[0]), min(int(where[0]) + 70000, true.numel())]
    assert torch.equal(restored(true, computed, cuts), true)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_all_and_none(dtype: torch.dtype) -> None:
    true, other = noise(5000, dtype, 1), noise(5000, dtype, 2)
    assert torch.equal(bits(restored(true, other, [100, 3001])), bits(true))
    same = patch.Differences()
    same.add(true, true.clone(), 0)
    assert same.encode() == b""
    patch.Patch(b"").apply(other, 0)
    assert torch.equal(bits(other), bits(noise(5000, dtype, 2)))


def test_many_pieces() -> None:
    """More than the reader takes at a time, with long gaps among short ones."""
    true = torch.zeros(400_000)
    computed = torch.where(torch.rand(true.shape) < 0.4, 1.0, true)
    computed[100_000:150_000] = 0
    assert torch.equal(restored(true, computed, [7, 130_000, 399_999]), true)


def test_a_patch_is_small_where_little_differs() -> None:
    true = torch.randn(1 << 18).bfloat16()
    computed = true.clone()
    hit = torch.rand(true.shape) < 0.01
    computed.view(torch.int16)[hit] ^= 1
    wrong = patch.Differences()
    wrong.add(true, computed, 0)
    assert len(wrong.encode()) * 8 / true.numel() < 0.13


def blob() -> bytes:
    true = torch.randn(3000)
    wrong = patch.Differences()
    wrong.add(true, torch.where(torch.rand(3000) < 0.1, true + 1, true), 0)
    return wrong.encode()


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_damaged_patch_is_refused_or_the_digest_will(at: int, mask: int) -> None:
    raw = bytearray(blob())
    raw[at % len(raw)] ^= mask
    try:
        patch.Patch(bytes(raw)).apply(torch.zeros(3000), 0)
    except DigestMismatch:
        return


@pytest.mark.parametrize("keep", [1, 23, 31, 60, -1])
def test_a_patch_cut_short_is_refused(keep: int) -> None:
    with pytest.raises(DigestMismatch, match="damaged"):
        patch.Patch(blob()[:keep])
