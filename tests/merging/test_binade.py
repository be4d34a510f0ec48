"""Bits of elements that moved up: with the patch, any differences come back to the bit, and damage is noticed."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adaptr.errors import DigestMismatch
from adaptr.merging import binade, patch

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def integers(tensor: Tensor) -> Any:
    return tensor.view(-1).view(patch.integer(tensor.element_size())).numpy()


def inverse(merged: Tensor, D: Tensor) -> tuple[Tensor, Any]:
    """The computed base, rounded, and what gives it unrounded at flat indices."""
    wide = merged.double() - D.double() if merged.dtype is torch.float32 else merged.float() - D
    return wide.to(merged.dtype), lambda at: wide.view(-1).numpy().take(at)


def sizes_and_back(W: Tensor, merged: Tensor, D: Tensor, cuts: list[int]) -> tuple[int, int, Tensor]:
    """Bytes of the bits and of the patch beside them, and W by way of these, made and applied in blocks."""
    kind = binade.kind_of(W.dtype)
    assert kind is not None
    blocks = [slice(a, b) for a, b in pairwise([0, *sorted(cuts), W.numel()])]
    lost, wrong = binade.Lost(kind), patch.Differences()
    for s in blocks:
        computed, exact = inverse(merged[s], D[s])
        wrong.note(*lost.add(integers(W[s]), integers(merged[s]), integers(computed), exact), s.start)
    bits, rest, out = lost.encode(), wrong.encode(), torch.empty_like(W)
    found, fixed = binade.Found(bits, kind), patch.Patch(rest)
    for s in blocks:
        computed, exact = inverse(merged[s], D[s])
        found.apply(integers(merged[s]), integers(computed), exact)
        fixed.apply(computed, s.start)
        out[s] = computed
    return len(bits), len(rest), out


def same(one: Tensor, other: Tensor) -> bool:
    return bool((integers(one) == integers(other)).all())


@pytest.mark.filterwarnings("ignore:invalid value|overflow")
@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(list(DTYPES.values())), st.integers(1, 300), st.integers(0, 2**31))
def test_anything_comes_back(data: st.DataObject, dtype: torch.dtype, numel: int, seed: int) -> None:
    """Any bits at all, NaN and infinities among them; merged from W or not."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randint(0, 256, (2, numel * dtype.itemsize), dtype=torch.uint8, generator=generator)
    W, merged = raw[0].view(dtype), raw[1].view(dtype)
    D = torch.randn(numel, generator=generator) * 10.0 ** data.draw(st.integers(-6, 6))
    if data.draw(st.booleans()):
        merged = (W.float() + D).to(dtype)
    cuts = data.draw(st.lists(st.integers(0, numel), max_size=4))
    assert same(sizes_and_back(W, merged, D, cuts)[2], W)


@pytest.mark.parametrize(("kind", "share"), [("bf16", 0.4), ("fp16", 0.4), ("fp32", 0.75)])
def test_they_are_smaller_than_a_patch_alone(kind: str, share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    W = (torch.randn(1 << 18, generator=generator) * 0.02).to(DTYPES[kind])
    D = torch.randn(W.shape, generator=generator) * 0.0008
    merged = (W.float() + D).to(W.dtype)
    bits, rest, back = sizes_and_back(W, merged, D, [100_000])
    alone = patch.Differences()
    alone.add(W, inverse(merged, D)[0].to(W.dtype), 0)
    assert same(back, W)
    assert bits + rest < share * len(alone.encode())


def blob() -> bytes:
    return struct.pack("<3Q", 2, 9, 3) + bytes(3)


@pytest.mark.parametrize(
    "raw",
    [
        blob()[:5],
        blob()[:20],
        blob()[:-1],
        blob() + b"x",
        struct.pack("<Q", 0),
        struct.pack("<Q", 9),
        struct.pack("<Q", 2**63),
    ],
)
def test_damaged_bits_are_refused(raw: bytes) -> None:
    with pytest.raises(DigestMismatch, match="damaged"):
        binade.Found(raw, binade.KINDS["bfloat16"])


@pytest.mark.parametrize("raw", [b"", struct.pack("<2Q", 1, 9) + bytes(2)])
def test_too_few_bits_are_refused(raw: bytes) -> None:
    merged, computed = torch.full((10,), 1.0).bfloat16(), torch.full((10,), 0.3)
    found = binade.Found(raw, binade.KINDS["bfloat16"])
    with pytest.raises(DigestMismatch, match="damaged"):
        found.apply(integers(merged), integers(computed.bfloat16()), lambda at: computed.numpy().take(at))


def test_bits_are_no_larger_than_elements() -> None:
    """Nothing is allocated on a receipt's say-so: counts are held against the bytes that are there."""
    with pytest.raises(DigestMismatch):
        binade.Found(struct.pack("<2Q", 1, 2**60) + bytes(8), binade.KINDS["float16"])
    assert np.unpackbits(np.frombuffer(blob()[24:], np.uint8)).size == 24
