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
from adaptr.kernels import building, compiled, fastest, plain
from adaptr.kernels.plain import BF16, FP16, FP32, Coded, Kernels, Kind
from adaptr.merging import binade

KINDS = {"bf16": BF16, "fp16": FP16, "fp32": FP32}
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


@settings(max_examples=200, deadline=None)
@given(st.data(), SIZES, st.integers(0, 2**31), st.integers(-42, 38), st.integers(-12, 3))
def test_a_sum_is_torchs(
    native: Kernels, data: st.DataObject, size: int, seed: int, magnitude: int, relative: int
) -> None:
    """Down to where both are denormal, up to where sums overflow; ties and zeros among them."""
    generator = torch.Generator().manual_seed(seed)
    W = (torch.randn(size, generator=generator).double() * 10.0**magnitude).float().bfloat16()
    D = (torch.randn(size, generator=generator).double() * 10.0 ** (magnitude + relative)).float()
    if data.draw(st.booleans()):  # half a unit in the last place, to the bit
        D = (W.view(torch.int16) + 1).view(torch.bfloat16).float().sub(W.float()) * 0.5
    D[torch.rand(size, generator=generator) < 0.1] = 0.0
    merged = (W.float() + D).bfloat16()
    found = native.add(W.view(torch.int16).numpy(), D.numpy(), BF16)
    if not merged.isfinite().all():
        assert found is None
        return
    assert found is not None
    below = merged.float() - D
    true, new, computed = (t.view(torch.int16).numpy() for t in (W, merged, below.bfloat16()))
    at = plain.find(true, new, computed, BF16)
    cut = below.view(torch.int32).numpy().take(at) >> 16
    assert equal(found.merged, new)
    same(found.coded, plain.code(true, new, at, computed.take(at), cut, BF16))


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), 3.4e38])
def test_a_sum_that_is_not_finite_is_left_to_who_can_say_so(native: Kernels, odd: float) -> None:
    added = np.zeros(2000, np.float32)
    added[1999] = odd
    assert native.add(np.zeros(2000, np.int16), added, BF16) is None


def test_nor_is_any_nan_a_number(native: Kernels) -> None:
    """Rounded as numbers are, those of all ones would be zeros."""
    for bits in (0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001):
        added = np.zeros(9, np.uint32)
        added[4] = bits
        assert native.add(np.zeros(9, np.int16), added.view(np.float32), BF16) is None


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
