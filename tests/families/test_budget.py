"""The smallest scheme of each target within an error: measured here dense, whatever the method."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import adaptr
import tiny
from adaptr.adapter import Adapter, Target
from adaptr.errors import BadConfig, NonFinite, NotPossible, Unsupported, UsageError
from adaptr.families.encoding import SCHEMES
from adaptr.testing.closeness import error_of_change
from adaptr.testing.samples import shaken
from checkpoints import lora_at


def nbytes(adapter: Adapter, path: str = "") -> int:
    return sum(tensor.nbytes for key, tensor in adapter.tensors.items() if key.startswith(path))


def size(adapter: Adapter, folder: Path) -> int:
    """Bytes of a file of it, whatever that says of how it was quantised."""
    said = {"scheme": "", "error": 0, "of": "delta"} if adapter.quantization else {}
    file = folder / "size.safetensors"
    adaptr.save(adapter.replace(quantization=said), file, force=True)
    return file.stat().st_size


def alone(adapter: Adapter, path: str) -> Adapter:
    here = {key: tensor for key, tensor in adapter.tensors.items() if key.rpartition(":")[0] == path}
    return adapter.replace(targets={path: adapter.targets[path]}, tensors=here)


@pytest.fixture(scope="module")
def lora() -> Adapter:
    """Factors of several sizes, one of them with a few large numbers, which four bits serve badly."""
    made = shaken(adaptr.create(tiny.model("llama"), "lora", ["attn.q", "attn.v", "mlp.down"], r=4))
    first = next(key for key in made.tensors if key.endswith(":A"))
    tensors = {**made.tensors, first: made.tensors[first] ** 5}
    return made.replace(tensors=tensors)


@pytest.mark.parametrize("error", [1e-3, 0.01, 0.012, 0.05, 0.1, 0.2])
def test_no_target_could_be_smaller_within_the_error(lora: Adapter, error: float, tmp_path: Path) -> None:
    made = adaptr.quantize(lora, error=error)
    assert error_of_change(lora, made) <= made.quantization["error"] <= error
    for path in lora.targets:
        before = alone(lora, path)
        others = [before, *(adaptr.quantize(before, scheme) for scheme in SCHEMES)]
        fitting = [size(one, tmp_path) for one in others if one.quantization.get("error", 0.0) <= error]
        # numbers in headers are longer and shorter, and one scheme is another's name
        assert size(alone(made, path), tmp_path) <= min(fitting) + 24


def test_each_target_has_what_quantising_it_alone_gives(lora: Adapter) -> None:
    made = adaptr.quantize(lora, error=0.1)
    assert made.quantization["scheme"] == "mixed"
    for path in lora.targets:
        mine = alone(made, path).tensors
        same = [adaptr.quantize(alone(lora, path), scheme).tensors for scheme in SCHEMES]
        assert any(one.keys() == mine.keys() and all(torch.equal(mine[k], one[k]) for k in mine) for one in same)


def test_one_scheme_for_all_is_called_by_its_name() -> None:
    adapter = lora_at(Target("q", "linear", (256, 512)), r=4)
    made, whole = adaptr.quantize(adapter, error=0.3), adaptr.quantize(adapter, "nf4")
    assert made.quantization == whole.quantization
    assert all(torch.equal(made.tensors[key], tensor) for key, tensor in whole.tensors.items())


@pytest.mark.parametrize("method", ["loha", "lokr", "dora", "oft", "full", "houlsby", "prefix", "prompt", "mam"])
def test_other_methods(method: str) -> None:
    adapter = shaken(adaptr.create(tiny.model("llama"), method))
    made = adaptr.quantize(adapter, error=0.05)
    assert error_of_change(adapter, made) <= made.quantization["error"] <= 0.05
    assert nbytes(made) < 0.55 * nbytes(adapter)


@pytest.mark.parametrize("method", ["ia3", "bitfit", "vera", "shira"])
def test_vectors_are_halved_at_most(method: str) -> None:
    adapter = shaken(adaptr.create(tiny.model("gpt2"), method))
    made = adaptr.quantize(adapter, error=0.05)
    assert made.quantization["scheme"] in {"fp16", "bf16", "mixed"}
    with pytest.raises(NotPossible, match=f"`{method}` smaller with an error of at most 1e-09"):
        adaptr.quantize(adapter, error=1e-9)


def test_parts_that_nearly_cancel_get_less_each() -> None:
    one = lora_at(Target("q", "linear", (64, 64)), r=4)
    near = one.replace(tensors={**one.tensors, "q:B": one.tensors["q:B"] * -1.1}, name="near")
    both = adaptr.create(tiny.model("llama"), "stack", children={"one": one, "near": near})
    made = adaptr.quantize(both, error=0.05)
    assert made.quantization["of"] == "delta"
    assert error_of_change(both, made) <= made.quantization["error"] <= 0.05
    assert adaptr.quantize(one, error=0.05).quantization["error"] > made.part("one").quantization["error"] / 2


def test_what_is_quantised_counts_with_its_error(lora: Adapter) -> None:
    once = adaptr.quantize(lora, "int8")
    made = adaptr.quantize(once, error=0.15)
    assert error_of_change(lora, made) <= made.quantization["error"] <= 0.15
    with pytest.raises(NotPossible, match="quantised already"):
        adaptr.quantize(once, error=0.001)
    with pytest.raises(NotPossible, match="smaller with an error"):
        adaptr.quantize(once, error=1.001 * once.quantization["error"])


def test_whole_parameters_stay(lora: Adapter) -> None:
    head = torch.randn(5, 64)
    made = adaptr.quantize(lora.replace(tensors={**lora.tensors, "head.weight:=": head}), error=0.1)
    assert torch.equal(made.replaced["head.weight"], head)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 5), st.floats(1e-3, 0.3), st.integers(0, 9))
def test_any_size(out: int, into: int, r: int, error: float, seed: int) -> None:
    adapter = shaken(lora_at(Target("q", "linear", (out, into)), r=r), seed)
    made = adaptr.quantize(adapter, error=error)
    assert error_of_change(adapter, made) <= made.quantization["error"] <= error
    assert made.floats().tensors.keys() == adapter.tensors.keys()


def test_refusals(lora: Adapter, tmp_path: Path) -> None:
    for given_ in ({}, {"scheme": "nf4", "error": 0.1}):
        with pytest.raises(UsageError, match="one of a scheme and an error"):
            adaptr.quantize(lora, **given_)  # type: ignore[arg-type]
    for error in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(BadConfig, match="`error`"):
            adaptr.quantize(lora, error=error)
    with pytest.raises(UsageError, match=r"`int3`.*fp16, bf16, int8, fp8, nf4, int4-g32"):
        adaptr.quantize(lora, "int3")
    with pytest.raises(NotPossible, match=r"`lora` smaller with an error of at most 0\.0001"):
        adaptr.quantize(lora, error=1e-4)
    key = next(iter(lora.tensors))
    broken = lora.replace(tensors={**lora.tensors, key: torch.full_like(lora.tensors[key], float("nan"))})
    with pytest.raises(NonFinite):
        adaptr.quantize(broken, error=0.1)
    with pytest.raises(Unsupported, match="vectors"):
        adaptr.quantize(shaken(adaptr.create(tiny.model("llama"), "ia3")), "nf4")
