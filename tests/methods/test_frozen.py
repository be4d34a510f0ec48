"""VeRA's projections and SHiRA's places: drawn alike for ever, checked, shared, and never trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import adaptr
import tiny
from adaptr import plugins
from adaptr.errors import DigestMismatch, TensorMissing
from adaptr.format import read
from adaptr.format.io import open_tensors
from adaptr.testing import shaken

#: Of the projections of seed 3, r 4, for layers up to 48 by 48: these bytes may never change.
DIGEST = "6cfae3285ff83c7f09b5129ce8e9fcdd588165b07ad0c277ece83a4a6d6f41b2"


def vera(**config: Any) -> adaptr.Adapter:
    return adaptr.create(tiny.model("llama"), "vera", ["attn.q", "mlp.down"], r=4, **config)


def test_projections_are_what_they_were() -> None:
    adapter = adaptr.create(tiny.model("llama"), "vera", "all-linear", r=4, seed=3)
    assert adapter.config["sha256"] == DIGEST
    assert (adapter.config["in_max"], adapter.config["out_max"]) == (48, 48)


def test_only_vectors_are_stored(tmp_path: Path) -> None:
    adaptr.save(shaken(vera()), tmp_path / "v.safetensors")
    assert {key.rpartition(":")[2] for key in open_tensors(tmp_path / "v.safetensors")} == {"b", "d"}


def test_projections_that_were_drawn_before_are_checked_as_well() -> None:
    """Another adapter of the same seed is at work in this process."""
    adapter, model = shaken(vera(seed=13)), tiny.model("llama")
    targets = {
        path: dataclasses.replace(t, config={**t.config, "sha256": "0" * 64}) for path, t in adapter.targets.items()
    }
    with adaptr.attach(model, adapter):
        model(**tiny.inputs("llama"))
    with adaptr.attach(model, adapter.replace(targets=targets)), pytest.raises(DigestMismatch, match="seed 13"):
        model(**tiny.inputs("llama"))


def test_other_projections_than_promised_are_refused() -> None:
    adapter = shaken(vera(seed=11))
    targets = {
        path: adaptr.Target(t.path, t.kind, t.shape, {**t.config, "seed": 12}) for path, t in adapter.targets.items()
    }
    model = tiny.model("llama")
    with adaptr.attach(model, adapter.replace(targets=targets)), pytest.raises(DigestMismatch, match="seed 12"):
        model(**tiny.inputs("llama"))


def stored(adapter: adaptr.Adapter) -> adaptr.Adapter:
    method: Any = plugins.method("vera")
    A, B = method.projections({}, method.config(adapter.config))
    targets = {
        path: adaptr.Target(t.path, t.kind, t.shape, {**t.config, "stored": True})
        for path, t in adapter.targets.items()
    }
    config = {**adapter.config, "stored": True}
    return adapter.replace(config=config, targets=targets, tensors={**adapter.tensors, ":A": A, ":B": B})


def test_stored_projections_are_one_tensor_for_all(tmp_path: Path) -> None:
    drawn = shaken(vera())
    adaptr.save(stored(drawn), tmp_path / "v.safetensors")
    adapter = read(tmp_path / "v.safetensors")
    model = tiny.model("llama")
    with adaptr.attach(model, drawn), torch.no_grad():
        want = model(**tiny.inputs("llama")).logits
    with adaptr.attach(model, adapter) as handle, torch.no_grad():
        assert torch.equal(model(**tiny.inputs("llama")).logits, want)
        assert len({state["A"].data_ptr() for state in handle.states.values()}) == 1
    with adaptr.train(model, adapter) as session:
        assert {p.ndim for p in session.parameters()} == {1}
        assert set(session.adapted().tensors) == set(adapter.tensors)
    small = adaptr.quantize(adapter, "bf16")
    assert torch.equal(small.tensors[":A"], adapter.tensors[":A"])
    broken = {key: t for key, t in adapter.tensors.items() if key != ":B"}
    with pytest.raises(TensorMissing, match="B"):
        adaptr.save(adapter.replace(tensors=broken), tmp_path / "w.safetensors")


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = tiny.seeded(nn.Linear(12, 20))


def places(**config: Any) -> torch.Tensor:
    adapter = adaptr.create(Model(), "shira", "layer", **config)
    found = adapter.tensors["layer:i"]
    assert found.dtype is torch.int64
    assert bool((found[1:] > found[:-1]).all())
    return found


def test_shira_at_random() -> None:
    found = places(r=2)
    assert len(found) == 2 * (12 + 20)
    assert torch.equal(found, places(r=2))
    assert not torch.equal(found, places(r=2, seed=1))
    assert len(places(r=100)) == 240  # never more than there are


def test_shira_where_the_weight_is_large() -> None:
    W = Model().layer.weight.detach().abs().flatten()
    found = places(mask="wm", n=30)
    assert float(W[found].min()) >= float(W.sort(descending=True).values[29])


def test_shira_in_rows_and_on_the_diagonal() -> None:
    found = places(mask="struct", n=12 + 30).tolist()
    assert set(range(0, 12 * 13, 13)) <= set(found)  # the diagonal of 20 by 12
    rows = [sum(place // 12 == row for place in found) for row in range(20)]
    assert sorted(rows)[-2:] == [12, 12]


def test_shira_keeps_its_places_when_quantised() -> None:
    adapter = shaken(adaptr.create(Model(), "shira", "layer", r=2))
    for scheme in ("bf16", "fp16"):
        small = adaptr.quantize(adapter, scheme)
        assert torch.equal(small.at("layer")["i"], adapter.at("layer")["i"])
