"""Adapters as operators and back, against what merging makes of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import plugins
from adaptr.adapter import Target
from adaptr.algebra.lowrank import LowRank
from adaptr.changes.deltas import deltas
from adaptr.checkpoint.open import open_checkpoint
from adaptr.contract import View
from adaptr.errors import ContentMismatch, NoDelta, NothingChanged, TargetNotFound
from adaptr.results.assemble import assemble
from composing.inputs import filled


def merged(model: Any, adapter: adaptr.Adapter, path: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What the adapter adds to the logical weight and to the bias at `path`, by its own merge."""
    from adaptr import host

    base = host.view_of(model, adapter.targets[path])
    hook = plugins.hooks(adapter.method).merge
    view: View = hook(adapter=adapter, target=adapter.targets[path], base=base, weight=1.0)
    before = base.bias if base.bias is not None else 0.0
    return view.weight - base.weight, None if view.bias is None else view.bias - before


@pytest.mark.parametrize(
    ("model", "method", "config"),
    [
        ("llama", "lora", {}),
        ("bert", "lora", {"bias": True}),
        ("gpt2", "lora", {"targets": ["attn.qkv", "embed"]}),
        ("mixtral", "lora", {"targets": ["mlp.down"]}),
        ("llama", "loha", {"r": 2}),
        ("llama", "vera", {"r": 8}),
        ("llama", "shira", {}),
        ("llama", "dora", {}),
        ("gpt2", "dora", {"targets": ["attn.qkv", "embed"]}),
        ("bert", "ia3", {}),
        ("llama", "oft", {}),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
@pytest.mark.parametrize("where", ["live", "checkpoint"])
def test_deltas_are_what_merging_adds(model: str, method: str, config: dict, where: str, tmp_path: Path) -> None:
    base = tiny.model(model)
    adapter = filled(adaptr.create(base, method, **config), 1)
    given: Any = base
    if where == "checkpoint":
        base.save_pretrained(tmp_path)
        given = open_checkpoint(tmp_path)
    found = deltas(adapter, given)
    assert set(found) == set(adapter.targets)
    for path in list(found)[:6]:
        D, shift = merged(base, adapter, path)
        torch.testing.assert_close(found[path].dense(torch.float32), D, rtol=1e-4, atol=1e-6)
        x = torch.randn(2, found[path].size[1])
        if not found[path].experts:
            torch.testing.assert_close(found[path] @ x, x @ D.flatten(1).T, rtol=1e-3, atol=1e-5)
        if path in found.biases:
            torch.testing.assert_close(found.biases[path], shift, rtol=1e-4, atol=1e-6)
        else:
            assert shift is None or not bool(shift.any())


def test_what_has_no_delta_says_why() -> None:
    model = tiny.model("llama")
    for method, word in (("prefix", "token positions"), ("houlsby", "non-linear"), ("mam", "token positions")):
        with pytest.raises(NoDelta, match=word):
            deltas(adaptr.create(model, method))
    with pytest.raises(NoDelta, match="give the base"):
        deltas(adaptr.create(model, "dora"))
    with pytest.raises(TargetNotFound, match="no weight at `nowhere`"):
        deltas(adaptr.create(model, "lora"))["nowhere"]


def test_another_base_is_noticed(tmp_path: Path) -> None:
    model = tiny.model("llama")
    adapter = adaptr.create(model, "dora")
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.add_(1)
    with pytest.raises(ContentMismatch):
        deltas(adapter, model)
    model.save_pretrained(tmp_path)
    with pytest.raises(ContentMismatch):
        deltas(adapter, open_checkpoint(tmp_path))


def test_a_scale_goes_into_the_tensors(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    for dtype, scale in ((torch.bfloat16, 2.0), (torch.bfloat16, 0.3), (torch.float32, 0.3)):
        op = LowRank(torch.randn(6, 2, generator=g).to(dtype), torch.randn(2, 5, generator=g).to(dtype), scale)
        made = assemble({"a": op}, {"a": Target("a", "linear", (6, 5))})
        assert made.targets["a"].config["alpha"] == made.targets["a"].config["r"] == 2
        torch.testing.assert_close(
            deltas(made)["a"].dense(torch.float64), op.dense(torch.float64), rtol=1e-6, atol=1e-6
        )
        adaptr.save(made, tmp_path / "x", force=True)
        assert adaptr.load(tmp_path / "x").targets == made.targets


def test_what_fits_nowhere_is_refused() -> None:
    op = LowRank(torch.ones(6, 2), torch.ones(2, 5))
    norm, linear = Target("n", "norm", (6,)), Target("a", "linear", (6, 5))
    with pytest.raises(NothingChanged):
        assemble({}, {"a": linear})
    with pytest.raises(NoDelta, match="only the bias of `n`"):
        assemble({"a": op}, {"a": linear, "n": norm}, biases={"n": torch.ones(6)})
    other = Target("b", "linear", (6, 5))
    made = assemble({"a": op}, {"a": linear, "b": other}, biases={"b": torch.ones(6)})
    assert set(deltas(made).biases) == {"b"}
    assert not bool(deltas(made)["b"].dense().any())
