"""More bits for the larger singular directions: smaller where the spectrum falls, the same change, within the error."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import adaptr
import tiny
from adaptr.adapter import Adapter, Target
from adaptr.errors import UsageError
from adaptr.testing import logits
from adaptr.testing.closeness import bits_equal, error_of_change
from adaptr.testing.samples import shaken
from checkpoints import lora_at

KINDS = {
    "linear": Target("q", "linear", (128, 192)),
    "embedding": Target("q", "embedding", (128, 300)),
    "conv2d": Target("q", "conv2d", (128, 64, 3, 3)),
    "experts": Target("q", "experts", (3, 128, 64)),
}


def falling(kind: str = "linear", r: int = 8) -> Adapter:
    """A LoRA whose directions get smaller, from 1 to 1/50, hidden in factors that show nothing of it."""
    adapter = shaken(lora_at(KINDS[kind], r=r))
    A, B = adapter.tensors["q:A"], adapter.tensors["q:B"]
    first = 1 if kind == "experts" else 0
    turn = torch.linalg.qr(torch.randn(r, r, generator=torch.Generator().manual_seed(0)))[0]
    tensors = {"q:A": along(A, first, turn.mT), "q:B": along(B, first + 1, turn.mT * torch.logspace(0, -1.7, r))}
    return adapter.replace(tensors=tensors)


def along(tensor: torch.Tensor, axis: int, matrix: torch.Tensor) -> torch.Tensor:
    """A matrix times the vectors along an axis."""
    return torch.tensordot(matrix, tensor, dims=([1], [axis])).movedim(0, axis).contiguous()


def nbytes(adapter: Adapter) -> int:
    return sum(tensor.nbytes for tensor in adapter.tensors.values())


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_smaller_than_what_one_scheme_takes(kind: str) -> None:
    adapter = falling(kind)
    plain = adaptr.quantize(adapter, error=0.04)
    made = adaptr.quantize(adapter, error=0.04, by_rank=True)
    assert error_of_change(adapter, made) <= made.quantization["error"] <= 0.04
    assert nbytes(made) < 0.85 * nbytes(plain)
    assert made.quantization["scheme"] == "mixed"
    assert {key for key in made.tensors if key.endswith(".rest")} == {"q:A.rest", "q:B.rest"}
    assert made.shapes("q") == adapter.shapes("q")


def test_one_wide_direction_fewer_is_too_few() -> None:
    adapter = falling()
    made = adaptr.quantize(adapter, error=0.04, by_rank=True)
    wide, rest = made.tensors["q:A"].shape[0], made.tensors["q:A.rest"].shape[0]
    assert wide + rest == 8
    assert 1 <= wide < rest
    tighter = adaptr.quantize(adapter, error=0.02, by_rank=True)
    assert tighter.tensors["q:A"].shape[0] > wide or nbytes(tighter) > nbytes(made)


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 70), st.integers(2, 70), st.integers(1, 9), st.floats(2e-3, 0.2), st.integers(0, 9))
def test_any_size_is_within_the_error_and_never_larger(out: int, into: int, r: int, error: float, seed: int) -> None:
    adapter = shaken(lora_at(Target("q", "linear", (out, into)), r=r), seed)
    made = adaptr.quantize(adapter, error=error, by_rank=True)
    assert error_of_change(adapter, made) <= made.quantization["error"] <= error
    assert made.floats().tensors.keys() == adapter.tensors.keys()
    assert nbytes(made) <= nbytes(adapter)


def test_written_read_and_attached_it_is_what_it_stands_for(tmp_path: Path) -> None:
    model = tiny.model("llama")
    adapter = shaken(adaptr.create(model, "lora", r=8))
    made = adaptr.quantize(adapter, error=0.1, by_rank=True)
    assert any(key.endswith(".rest") for key in made.tensors)
    adaptr.save(made, tmp_path / "a.safetensors")
    outputs = []
    for one in (adaptr.load(tmp_path / "a.safetensors"), made.floats()):
        with adaptr.attach(model, one), torch.no_grad():
            outputs.append(logits(model(**tiny.inputs("llama"))))
    assert bits_equal(*outputs)
    assert adaptr.inspect(tmp_path / "a.safetensors").trained == adaptr.inspect(adapter).trained


@pytest.mark.parametrize("method", ["loha", "dora", "full", "houlsby"])
def test_what_is_no_product_of_two_factors_is_as_without_it(method: str) -> None:
    adapter = shaken(adaptr.create(tiny.model("llama"), method))
    plain, made = (adaptr.quantize(adapter, error=0.05, by_rank=by) for by in (False, True))
    assert made.quantization == plain.quantization
    assert all(torch.equal(made.tensors[key], tensor) for key, tensor in plain.tensors.items())


def test_without_an_error_it_means_nothing() -> None:
    with pytest.raises(UsageError, match="`by_rank`"):
        adaptr.quantize(falling(), "nf4", by_rank=True)
