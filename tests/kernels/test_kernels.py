"""Compiled or not: the same bytes, and everything works without."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import any_machine
from adaptr.algebra import exact
from adaptr.kernels import building, compiled, fastest, plain
from adaptr.kernels.plain import BF16, FP16, FP32, Coded, Kernels, Kind
from adaptr.merging import binade

KINDS = {"bf16": BF16, "fp16": FP16, "fp32": FP32}
HALVES = {torch.bfloat16: BF16, torch.float16: FP16}
#: Around the ends of eights and of what is done at a time.
SIZES = st.sampled_from([0, 1, 7, 8, 9, 300, 1023, 1024, 1025, 2500])


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Kernels:
    library = tmp_path_factory.mktemp("native") / "kernels.so"
    if not shutil.which("cc") or not building.build(library):
        pytest.skip("there is no C compiler here")
    found = compiled.load(library)
    assert found
    return found


def elements(kind: Kind, raw: np.ndarray[Any, Any]) -> Any:
    return raw.astype(f"u{kind.size}").view(f"i{kind.size}")


def equal(one: Any, other: Any) -> bool:
    return one.dtype == other.dtype and np.array_equal(one, other)


def same(one: Coded, other: Coded) -> None:
    assert equal(one.at, other.at)
    assert equal(one.wrong, other.wrong)
    assert [list(bits) for bits in one.planes] == [list(bits) for bits in other.planes]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(KINDS.values())), SIZES, st.integers(0, 2**31), st.integers(0, 12), st.booleans())
def test_the_same_is_found_and_kept(native: Kernels, kind: Kind, size: int, seed: int, far: int, wild: bool) -> None:
    """Of any bits at all, NaN, infinities and zeros of both signs among them; or of numbers close to each other."""
    rng = np.random.default_rng(seed)
    true, merged, computed = (elements(kind, rng.integers(0, 2 ** (8 * kind.size), size)) for _ in range(3))
    cut = rng.integers(-(2**31), 2**31, size, dtype=np.int32)
    if not wild:
        merged = true + rng.integers(0, 1 << far, size).astype(true.dtype) * true.dtype.type(1 << (kind.shift - 4))
        computed = true + rng.integers(-2, 3, size).astype(true.dtype)
        cut = true.astype(np.int32) - rng.integers(0, 2, size, dtype=np.int32)
    at = native.find(true, merged, computed, kind)
    assert equal(at, plain.find(true, merged, computed, kind))
    one, two = (k.code(true, merged, at, computed.take(at), cut.take(at), kind) for k in (native, plain))
    same(one, two)


@settings(max_examples=300, deadline=None)
@given(
    st.data(), st.sampled_from(list(HALVES)), SIZES, st.integers(0, 2**31), st.integers(-42, 38), st.integers(-12, 3)
)
def test_a_sum_is_torchs(
    native: Kernels,
    data: st.DataObject,
    dtype: torch.dtype,
    size: int,
    seed: int,
    magnitude: int,
    relative: int,
) -> None:
    """Down to where both are denormal, up to where sums overflow; ties and zeros among them."""
    kind, generator = HALVES[dtype], torch.Generator().manual_seed(seed)
    if dtype is torch.float16:
        magnitude //= 8
    W = (torch.randn(size, generator=generator).double() * 10.0**magnitude).to(dtype)
    D = (torch.randn(size, generator=generator).double() * 10.0 ** (magnitude + relative)).float()
    if data.draw(st.booleans()):  # half a unit in the last place, to the bit
        D = (W.view(torch.int16) + 1).view(dtype).float().sub(W.float()) * 0.5
    D[torch.rand(size, generator=generator) < 0.1] = 0.0
    merged = (W.float() + D).to(dtype)
    found, sums = (way(W.view(torch.int16).numpy(), D.numpy(), kind) for way in (native.add, native.plus))
    if not merged.isfinite().all():
        assert found is None
        assert sums is None
        return
    assert found is not None
    below = merged.float() - D
    true, new, computed = (t.view(torch.int16).numpy() for t in (W, merged, below.to(dtype)))
    at = plain.find(true, new, computed, kind)
    cut = binade._truncated(below.numpy().take(at), kind)
    assert equal(found.merged, new)
    assert equal(sums, new)
    same(found.coded, plain.code(true, new, at, computed.take(at), cut, kind))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 20), st.integers(0, 40), st.integers(0, 300), st.integers(0, 2**31), st.integers(-30, 30))
def test_an_exact_product_is_torchs(
    native: Kernels, height: int, width: int, rank: int, seed: int, magnitude: int
) -> None:
    """Around the ends of rows and columns done at a time; zeros, of both signs where they underflow; left to a library
    where the rank is high.
    """
    generator = torch.Generator().manual_seed(seed)
    B = torch.randn(height, rank, generator=generator) * 10.0**magnitude
    A = torch.randn(rank, width, generator=generator) * (torch.rand(rank, width, generator=generator) < 0.8)
    made = exact.Product(B, A, torch.float32)
    found = native.product(made.B[0].numpy(), made.A[0].numpy()) if len(made.B) == 1 else None
    if found is not None:
        assert equal(found.view(np.int32), (made.B[0] @ made.A[0]).float().view(torch.int32).numpy())


def test_products_are_compiled_where_that_is_faster(native: Kernels) -> None:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    B, A = np.ones((9, 16)), np.ones((16, 33))
    found = native.product(B, A)
    if "avx512vl" not in flags:
        pytest.skip("this processor's vectors are too short")
    assert equal(found, np.full((9, 33), 16, np.float32))
    assert native.product(np.ones((2, 257)), np.ones((257, 2))) is None


@pytest.mark.parametrize("dtype", HALVES)
def test_every_number_of_two_bytes_is_widened_and_rounded_as_torch_does(native: Kernels, dtype: torch.dtype) -> None:
    """All of them that are finite, nothing and a hair beside what lies between two added to each."""
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    W = every[every.isfinite()]
    step = (W.view(torch.int16) + 1).view(dtype).double() - W.double()
    middle = torch.where(step.isfinite(), step * 0.5, 0.0).float()
    for D in (middle * 0, -middle * 0, middle, middle.nextafter(middle * 0), middle.nextafter(middle * 2), -middle):
        want = (W.float() + D).to(dtype)
        kept = want.isfinite()
        found = native.plus(W[kept].view(torch.int16).numpy(), D[kept].numpy(), HALVES[dtype])
        assert equal(found, want[kept].view(torch.int16).numpy())


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
def test_a_base_that_is_not_finite_is_left_too(native: Kernels, dtype: torch.dtype, odd: float) -> None:
    """Whatever is added: what fp16 has for infinity would be a number."""
    base = torch.full((9,), odd).to(dtype).view(torch.int16).numpy()
    for added in (0.0, 1e5, -1e5):
        assert native.plus(base, np.full(9, added, np.float32), HALVES[dtype]) is None
        assert native.add(base, np.full(9, added, np.float32), HALVES[dtype]) is None


@pytest.mark.parametrize("kind", HALVES.values())
@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 3.4e38])
def test_a_sum_that_is_not_finite_is_left_to_who_can_say_so(native: Kernels, odd: float, kind: Kind) -> None:
    added = np.zeros(2000, np.float32)
    added[1999] = odd
    assert native.add(np.zeros(2000, np.int16), added, kind) is None
    assert native.plus(np.zeros(2000, np.int16), added, kind) is None


@pytest.mark.parametrize("kind", HALVES.values())
def test_nor_is_any_nan_a_number(native: Kernels, kind: Kind) -> None:
    """Rounded as numbers are, those of all ones would be zeros."""
    for bits in (0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001):
        added = np.zeros(9, np.uint32)
        added[4] = bits
        assert native.add(np.zeros(9, np.int16), added.view(np.float32), kind) is None


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.safetensors"))}


def test_merges_and_receipts_are_the_same_bytes(
    native: Kernels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every method, on bases of every dtype."""
    written = []
    for name, kernels in {"native": native, "plain": plain}.items():
        monkeypatch.setattr(binade, "fastest", lambda kernels=kernels: kernels)
        any_machine.write(tmp_path / name)
        written.append(files(tmp_path / name))
    assert written[0].keys() == written[1].keys()
    assert not [path for path in written[0] if written[0][path] != written[1][path]]


def test_what_is_not_of_this_source_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: Kernels
) -> None:
    library = tmp_path / "kernels.so"
    assert building.build(library)
    monkeypatch.setattr(compiled, "digest", lambda: "0" * 64)
    assert compiled.load(library) is None


def test_without_a_library_there_is_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kernels.so").write_bytes(b"of another machine")
    assert compiled.load(tmp_path / "kernels.so") is None
    assert compiled.load(tmp_path / "missing.so") is None
    monkeypatch.setattr(compiled, "load", lambda: None)
    assert fastest.__wrapped__() is plain


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_without_a_compiler_it_is_said_why(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", compiler)
    assert not building.build(tmp_path / "kernels.so")
    assert f"merges will be slower, as `{compiler}" in capsys.readouterr().err
