"""Tensors in fewer bits, held against bitsandbytes where the scheme is its own, and against bounds elsewhere."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adaptr.adapter import packed
from adaptr.adapter.dequantize import dequantize
from adaptr.families import encoding

SHAPES = st.tuples(st.integers(1, 9), st.sampled_from([4, 6, 30, 64, 66, 128, 200, 384]))


def drawn(shape: tuple[int, ...], seed: int, rows: float = 1.0) -> Tensor:
    """Normal numbers, the rows of different sizes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator) * torch.logspace(-rows, rows, shape[0])[:, None]


def floats(stored: dict[str, Tensor]) -> Tensor:
    return dequantize({f"A{suffix}": tensor for suffix, tensor in stored.items()})["A"]


@settings(deadline=None)
@given(SHAPES, st.integers(0, 99), st.booleans())
def test_nf4_is_bitsandbytes_bit_for_bit(shape: tuple[int, int], seed: int, turned: bool) -> None:
    """Codes, and what they are read as with the largest values that are kept. Of a second factor, turned round."""
    functional = pytest.importorskip("bitsandbytes.functional")
    tensor = drawn(shape, seed)
    mine = encoding.stored(tensor.T if turned else tensor, "nf4", (1,) if turned else (0,))
    if packed.ABSMAX not in mine:
        return
    codes, largest = (one.T if turned else one for one in (mine[""], mine[packed.ABSMAX]))
    read = floats(mine).T if turned else floats(mine)
    for row, own, each, values in zip(tensor, codes, largest, read, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a kernel for which a package is not there
            theirs, state = functional.quantize_4bit(row.contiguous(), blocksize=64, quant_type="nf4")
            assert torch.equal(theirs.flatten(), own)
            assert torch.equal(state.absmax.bfloat16(), each)
            state.absmax = each.float().contiguous()
            assert torch.equal(functional.dequantize_4bit(theirs, state).flatten(), values)


def test_the_table_is_bitsandbytes() -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    assert functional.get_4bit_type("nf4", device="cpu").tolist() == pytest.approx(packed.NF4, abs=0)


@settings(deadline=None)
@given(SHAPES, st.integers(0, 99))
def test_each_number_is_within_a_step_of_what_is_stored(shape: tuple[int, int], seed: int) -> None:
    tensor = drawn(shape, seed)
    stored = encoding.stored(tensor, "int4-g32", (0,))
    if packed.STEP not in stored:
        return
    step = stored[packed.STEP].float().abs().repeat_interleave(32, 1)[:, : shape[1]]
    assert bool(((floats(stored) - tensor).abs() <= 1.05 * step).all())  # what has the other sign ends at 7 steps
    largest = tensor.abs().argmax(1)
    rows = torch.arange(shape[0])
    assert torch.allclose(floats(stored)[rows, largest], tensor[rows, largest], rtol=2**-8)


@pytest.mark.parametrize(
    ("scheme", "bits", "error"), [("int8", 8.0, 0.011), ("fp8", 8.0, 0.029), ("nf4", 4.25, 0.1), ("int4-g32", 4.5, 0.1)]
)
def test_what_a_scheme_takes_and_costs(scheme: str, bits: float, error: float) -> None:
    tensor = drawn((8, 4096), 0)
    stored = encoding.stored(tensor, scheme, (0,))
    off = (floats(stored) - tensor).norm(dim=1) / tensor.norm(dim=1)
    assert 8 * sum(part.nbytes for part in stored.values()) / tensor.numel() == pytest.approx(bits, rel=2e-3)
    assert 0.5 * error < off.max() <= error, "rows of any size lose the same"


@pytest.mark.parametrize("scheme", encoding.ENCODERS)
@pytest.mark.parametrize("value", [0.0, 1e-45, 1e-39, -3e38])
def test_zeros_and_numbers_at_the_ends_of_fp32(scheme: str, value: float) -> None:
    tensor = torch.full((2, 70), value)
    tensor[0, 3] = -value
    found = floats(encoding.stored(tensor, scheme, (0,)))
    assert torch.allclose(found, tensor, rtol=0.15, atol=2e-39)


@pytest.mark.parametrize(
    ("shape", "kept", "names"),
    [
        ((8, 100), (0,), {"", ".absmax"}),
        ((100, 8), (1,), {"", ".absmax"}),
        ((4, 3, 3, 3), (0,), {"", ".scale"}),  # no even axis: int8
        ((100, 1, 1, 1), (1,), {"", ".absmax"}),
        ((2, 8, 30), (0, 1), {"", ".absmax"}),
        ((64,), (0,), {""}),
        ((4, 1), (0,), {""}),
        ((1, 1), (0,), {""}),
    ],
)
def test_what_is_packed_along_which_axis(shape: tuple[int, ...], kept: tuple[int, ...], names: set[str]) -> None:
    stored = encoding.stored(torch.randn(shape, generator=torch.Generator().manual_seed(0)), "nf4", kept)
    assert set(stored) == names
    assert floats(stored).shape == shape
    if packed.ABSMAX in names:
        blocks = stored[packed.ABSMAX].shape
        assert all(blocks[i] == shape[i] for i in kept)
