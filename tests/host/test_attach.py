"""Attach, stack, change strength, detach: nothing is left behind, and nothing is touched when it is refused."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import adaptr
import tiny
from adaptr import errors, host
from adaptr.host import call
from adaptr.testing import assert_close, merged
from attached import made, run

METHODS = ("lora", "ia3", "dora", "bitfit")
WEIGHTS = (1, 0.5, 1, 0.3)


@pytest.mark.parametrize("order", list(itertools.permutations(METHODS)))
def test_a_stack_in_any_order_is_its_composed_view(order: tuple[str, ...]) -> None:
    model = tiny.model("gpt2")
    base = run(model)
    stack = [
        (made(model, method, seed), weight) for seed, (method, weight) in enumerate(zip(order, WEIGHTS, strict=True))
    ]
    handles = [adaptr.attach(model, adapter, weight) for adapter, weight in stack]
    attached = run(model)
    for i in (2, 0, 3, 1):
        handles[i].detach()
    assert torch.equal(run(model), base)
    assert_close(run(merged(model, stack)), attached, to=2e-5)


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "bitfit", "houlsby", "parallel"])
def test_strength_zero_is_the_base_and_one_is_all(method: str) -> None:
    model = tiny.model("gpt2")
    base, adapter = run(model), made(model, method)
    handle = adaptr.attach(model, adapter, 0.0)
    assert_close(run(model), base, to=1e-6)
    assert call.chain() is None  # of that call nothing stays with the thread
    handle.weight = 1.0
    full = run(model)
    handle.detach()
    with adaptr.attach(model, adapter) as again:
        assert torch.equal(run(model), full)
        assert again.weight == 1.0
        again.weight = 0.5
        assert not torch.equal(run(model), full)
        again.weight = 0.0
        assert_close(run(model), base, to=1e-6)


@pytest.mark.parametrize("method", ["prefix", "prompt", "mam"])
def test_virtual_tokens_have_no_strength(method: str) -> None:
    model = tiny.model("llama")
    adapter = made(model, method, **({"m": 8} if method == "mam" else {}))
    with pytest.raises(errors.Unsupported, match="no strength"):
        adaptr.attach(model, adapter, 0.5)
    assert host.attached(model) == {}
    with adaptr.attach(model, adapter) as handle, pytest.raises(errors.Unsupported, match="no strength"):
        handle.weight = 0.5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_strength_must_be_finite(value: float) -> None:
    model = tiny.model("llama")
    with pytest.raises(errors.UsageError, match="finite"):
        adaptr.attach(model, made(model, "lora"), value)


def test_twice_is_refused_and_another_name_is_not() -> None:
    model = tiny.model("llama")
    adapter = made(model, "lora")
    with adaptr.attach(model, adapter):
        with pytest.raises(errors.AlreadyAttached, match="detach it first"):
            adaptr.attach(model, adapter)
        with pytest.raises(errors.AlreadyAttached, match="another name"):
            adaptr.attach(model, made(model, "lora"))
        with adaptr.attach(model, made(model, "lora", 2)):
            assert list(host.attached(model)) == ["lora1", "lora2"]
    assert host.attached(model) == {}


def test_a_file_without_a_name_is_attached_as_often_as_it_is_read(tmp_path: Path) -> None:
    model = tiny.model("llama")
    adaptr.save(made(model, "lora").replace(name=""), tmp_path / "a.safetensors")
    with adaptr.attach(model, tmp_path / "a.safetensors"), adaptr.attach(model, tmp_path / "a.safetensors"):
        assert len(host.attached(model)) == 2


def test_where_an_adapter_is_will_do(tmp_path: Path) -> None:
    model = tiny.model("llama")
    adaptr.save(made(model, "lora"), tmp_path / "a.safetensors")
    with adaptr.attach(model, adaptr.load(tmp_path / "a.safetensors")):
        wanted = run(model, "llama")
    for where in (tmp_path / "a.safetensors", str(tmp_path / "a.safetensors")):
        with adaptr.attach(model, where):
            assert torch.equal(run(model, "llama"), wanted)
    with adaptr.train(model, tmp_path / "a.safetensors") as session:
        assert torch.equal(run(model, "llama"), wanted)
        assert list(session.parameters())


@pytest.mark.parametrize("wrong", [None, 3, ["a"], torch.nn.Linear(2, 2)], ids=repr)
def test_what_is_no_adapter_is_said(wrong: Any) -> None:
    for way in (adaptr.attach, adaptr.train):
        with pytest.raises(errors.UsageError, match="wanted an adapter"):
            way(tiny.model("llama"), wrong)


@pytest.mark.parametrize("method", ["lora", "houlsby", "prompt"])
@pytest.mark.parametrize("weight", ["high", None, float("inf"), True, torch.ones(2)])
def test_a_weight_that_is_no_number(method: str, weight: Any) -> None:
    model = tiny.model("llama")
    with pytest.raises(errors.UsageError, match="wanted a finite number"):
        adaptr.attach(model, made(model, method), weight=weight)
    assert not host.attached(model)


@pytest.mark.parametrize("weight", [torch.tensor(0.5), np.float32(0.5), 0.5])
def test_a_weight_of_any_kind_of_number(weight: Any) -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, made(model, "lora"), weight=weight) as handle:
        assert handle.weight == 0.5


@pytest.mark.parametrize("name", ["items", "keys", "a.b", "type"])
def test_any_name_will_do(name: str) -> None:
    model = tiny.model("llama")
    base = run(model, "llama")
    with adaptr.attach(model, made(model, "lora").replace(name=name)):
        assert not torch.equal(run(model, "llama"), base)
    assert torch.equal(run(model, "llama"), base)


def test_an_exception_in_forward_leaves_it_detachable() -> None:
    model = tiny.model("llama")
    base = run(model, "llama")
    handle = adaptr.attach(model, made(model, "parallel", m=8))
    with pytest.raises(IndexError):
        model(input_ids=torch.tensor([[10_000]]))
    handle.detach()
    handle.detach()
    assert torch.equal(run(model, "llama"), base)


def _broken(adapter: adaptr.Adapter, kind: str) -> adaptr.Adapter:
    path, target = list(adapter.targets.items())[-1]
    if kind == "path":
        wrong = adaptr.Target(path + "x", target.kind, target.shape, target.config)
        tensors = {k.replace(f"{path}:", f"{path}x:"): t for k, t in adapter.tensors.items()}
        targets = {**{p: t for p, t in adapter.targets.items() if p != path}, path + "x": wrong}
        return adapter.replace(targets=targets, tensors=tensors)
    if kind == "tensor":
        return adapter.replace(tensors={**adapter.tensors, f"{path}:A": torch.zeros(3, 3)})
    if kind == "extra":
        return adapter.replace(tensors={**adapter.tensors, f"{path}:b": torch.zeros(target.shape[0])})
    if kind == "missing":
        return adapter.replace(tensors={k: t for k, t in adapter.tensors.items() if k != f"{path}:A"})
    out, into = target.shape
    size = (out + 1, into) if kind == "shape" else (out, into)
    wrong = adaptr.Target(path, "linear_t" if kind == "kind" else target.kind, size, target.config)
    tensors = {**adapter.tensors, f"{path}:B": torch.zeros(size[0], 8)}
    return adapter.replace(targets={**adapter.targets, path: wrong}, tensors=tensors)


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("path", errors.TargetNotFound, "nearest name"),
        ("tensor", errors.ShapeError, "`A`"),
        ("extra", errors.ShapeError, "`b`"),
        ("missing", errors.ShapeError, "missing"),
        ("shape", errors.TargetMismatch, "of shape"),
        ("kind", errors.TargetMismatch, "linear_t"),
    ],
)
@pytest.mark.parametrize("verb", ["attach", "train"])
def test_what_does_not_fit_is_refused_and_nothing_is_touched(kind: str, error: type, words: str, verb: str) -> None:
    model = tiny.model("llama")
    classes = [type(m) for m in model.modules()]
    with pytest.raises(error, match=words):
        getattr(adaptr, verb)(model, _broken(made(model, "lora"), kind))
    assert [type(m) for m in model.modules()] == classes
    assert all(p.requires_grad for p in model.parameters())
    assert host.attached(model) == {}


def test_another_revision_is_noticed_in_any_dtype() -> None:
    model = tiny.model("llama")
    adapter = made(model, "lora")
    for dtype in (torch.bfloat16, torch.float32):
        adaptr.attach(copy.deepcopy(model).to(dtype), adapter).detach()
    other = tiny.seeded(tiny.model("llama"))
    with pytest.raises(errors.ContentMismatch, match="not those it was trained on"):
        adaptr.attach(other, adapter)
    adaptr.attach(other, adapter.replace(base=adaptr.Base())).detach()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("way", [adaptr.attach, adaptr.train])
def test_what_is_not_finite_is_refused_and_nothing_is_left(way: Any, value: float, tmp_path: Path) -> None:
    """In memory and in a file; a stack by its parts."""
    model = tiny.model("llama")
    base = run(model)
    good = made(model, "lora")
    key = next(iter(good.tensors))
    bad = good.replace(tensors={**good.tensors, key: torch.full_like(good.tensors[key], value)})
    adaptr.save(bad, tmp_path / "bad.safetensors")
    both = adaptr.create(model, "stack", children={"a": good, "b": bad})
    for one in (bad, adaptr.load(tmp_path / "bad.safetensors"), both):
        with pytest.raises(errors.NonFinite, match="holds NaN or infinity"):
            way(model, one)
        assert torch.equal(run(model), base)
    half = good.replace(tensors={k: torch.full_like(t, 6e4).half() for k, t in good.tensors.items()})
    way(model, half).detach()
