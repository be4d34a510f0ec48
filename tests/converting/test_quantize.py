"""What quantised adapters become in other hands is what becomes of the numbers that they stand for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import plugins
from adaptr.adapter import Adapter
from adaptr.errors import AdaptrError, TargetNotFound, Unsupported
from adaptr.format import digest
from adaptr.testing import assert_close, logits
from adaptr.testing.closeness import bits_equal, error_of_change
from adaptr.testing.samples import shaken

METHODS = [name for name in plugins.builtin_files() if not plugins.method(name).can.needs]


def made(method: str, seed: int = 1) -> Adapter:
    try:
        return shaken(adaptr.create(tiny.model("llama"), method, **plugins.method(method).small), seed)
    except TargetNotFound as nothing:
        pytest.skip(str(nothing))


def smallest(adapter: Adapter) -> Adapter:
    for scheme in ("nf4", "int8"):
        with contextlib.suppress(Unsupported):
            return adaptr.quantize(adapter, scheme)
    return adaptr.quantize(adapter, "bf16")


def same(one: Adapter, other: Adapter) -> bool:
    return one.tensors.keys() == other.tensors.keys() and all(
        bits_equal(one.tensors[key], tensor) for key, tensor in other.tensors.items()
    )


def output(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return logits(model(**tiny.inputs("llama")))


def answers(do: Callable[[Adapter], Any], adapter: Adapter) -> Any:
    """What comes of it, or the class of the refusal, which is the same for both."""
    try:
        return do(adapter)
    except AdaptrError as refusal:
        return type(refusal)


USES: dict[str, Callable[[Adapter, Path], Any]] = {
    "compose": lambda a, tmp: adaptr.compose([(a, 0.5), (made(a.method, 2), 0.5)], "linear", rank=4).adapter,
    "average": lambda a, tmp: adaptr.compose([(a, 0.5), (made(a.method, 2), 0.5)], "average").adapter,
    "resize": lambda a, tmp: adaptr.load(adaptr.resize(a, tmp / "r.safetensors", rank=1, force=True).out).held(),
    "convert": lambda a, tmp: adaptr.load(
        adaptr.convert_method(a, tmp / "c.safetensors", "lora", rank=4, base=tiny.model("llama"), force=True).out
    ).held(),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("use", USES)
def test_what_is_made_of_it_is_what_is_made_of_its_numbers(use: str, method: str, tmp_path: Path) -> None:
    small = smallest(made(method))
    mine, meant = (answers(lambda one: USES[use](one, tmp_path), given) for given in (small, small.floats()))
    assert type(mine) is type(meant)
    assert mine is meant or same(mine, meant)
    assert not isinstance(mine, Adapter) or not mine.quantization, "what is computed anew is not quantised"


@pytest.mark.parametrize("method", METHODS)
def test_it_differs_from_its_original_by_what_it_declares(method: str) -> None:
    adapter = made(method)
    small = smallest(adapter)
    try:
        report = adaptr.diff(adapter, small)
    except AdaptrError:
        assert not plugins.method(method).can.adds
        return
    assert not report.same_change
    assert error_of_change(adapter, small) <= small.quantization["error"]
    assert adaptr.diff(small.floats(), small).same_change


@pytest.mark.parametrize("method", METHODS)
def test_a_stack_of_it_is_a_stack_of_its_numbers(method: str) -> None:
    small, model = smallest(made(method)), tiny.model("llama")
    if small.parts:
        pytest.skip("what is made of parts is no part of a stack")
    outputs = []
    for one in (small, small.floats()):
        stack = adaptr.stack(model, {"a": one})
        outputs.append(output(model))
        stack.detach()
    assert bits_equal(*outputs)


@pytest.mark.parametrize("method", METHODS)
def test_in_a_pool_it_is_what_it_is_alone(method: str) -> None:
    small, model = smallest(made(method)), tiny.model("llama")
    ids = tiny.inputs("llama", batch=2)["input_ids"]
    with torch.no_grad(), adaptr.attach(model, small):
        wanted = logits(model(ids[:1]))
    with torch.no_grad():
        bare = logits(model(ids[1:]))

    def served(adapter: Adapter) -> torch.Tensor:
        with adaptr.pool(model) as pool, torch.no_grad():
            pool.add("a", adapter)
            return logits(pool.forward(["a", None], ids))

    found, meant = answers(served, small), answers(served, small.floats())
    if isinstance(found, torch.Tensor):
        assert bits_equal(found, meant)
        assert_close(found[:1], wanted)
        assert_close(found[1:], bare)
    assert isinstance(found, torch.Tensor) or found is meant, "refused as its numbers are"


def test_merging_a_file_of_it_is_merging_its_numbers(tmp_path: Path) -> None:
    model = tiny.model("llama")
    model.save_pretrained(tmp_path / "base")
    small = smallest(made("lora"))
    adaptr.save(small, tmp_path / "small.safetensors")
    adaptr.save(small.floats(), tmp_path / "plain.safetensors")
    for name in ("small", "plain"):
        adaptr.merge(tmp_path / "base", [tmp_path / f"{name}.safetensors"], tmp_path / name)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("small", "plain")]
    assert weights[0] == weights[1]
    assert adaptr.verify(tmp_path / "small", tmp_path / "base", [tmp_path / "small.safetensors"]).ok


def test_a_file_names_its_parent_and_its_bytes_repeat(tmp_path: Path) -> None:
    source = tmp_path / "a.safetensors"
    adaptr.save(made("lora").replace(name="style", license="MIT"), source)
    reports = [adaptr.quantize_file(source, tmp_path / f"{n}.safetensors", error=0.1) for n in (1, 2)]
    assert reports[0].digest == reports[1].digest
    found = adaptr.load(reports[0].out)
    assert (found.name, found.license) == ("style", "MIT")
    assert found.lineage["arguments"] == {"error": 0.1}
    assert found.lineage["operation"] == "quantize"
    assert found.lineage["parents"][0]["digest"] == digest.of_file(source)
    assert reports[0].bytes == Path(reports[0].out).stat().st_size < reports[0].bytes_before == source.stat().st_size


def test_the_report_has_each_group_with_its_error_and_bytes(tmp_path: Path) -> None:
    adapter = made("lora")
    report = adaptr.quantize_file(adapter, tmp_path / "a.safetensors", "nf4")
    stored = adaptr.load(report.out)
    assert sum(group.count for group in report.groups) == len(adapter.targets)
    assert {group.scheme for group in report.groups} == {"nf4"}
    assert all("*" in group.targets for group in report.groups)
    assert max(group.error for group in report.groups) <= report.error == stored.quantization["error"]
    assert sum(group.bytes for group in report.groups) == sum(t.nbytes for t in stored.tensors.values())
    assert sum(group.bytes_before for group in report.groups) == sum(t.nbytes for t in adapter.tensors.values())
    parts = adaptr.quantize_file(made("mam"), tmp_path / "m.safetensors", "int8")
    assert {group.targets.partition(":")[0] for group in parts.groups} == {"prefix", "parallel"}
