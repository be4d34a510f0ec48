"""What is not merged, and why; nothing is written then."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import checkpoints as c
import tiny
from adaptr import api
from adaptr.adapter import Adapter, Target
from adaptr.errors import (
    ContentMismatch,
    NonFinite,
    NothingChanged,
    NotMergeable,
    TargetMismatch,
    TargetNotFound,
    Unsupported,
    UsageError,
)
from merging.round_trips import BF16, F16, replacing, round_trip


@pytest.mark.parametrize("method", ["houlsby", "parallel", "prefix", "prompt", "mam"])
def test_what_has_no_weight_is_refused_before_anything_is_written(tmp_path: Path, method: str) -> None:
    base = c.saved("llama", tmp_path / "base")
    good, bad = c.randomised(base), c.randomised(base, method)
    with pytest.raises(NotMergeable):
        api.merge(base, [good, bad], tmp_path / "deep/out")
    assert not (tmp_path / "deep").exists()


def test_targets_that_are_not_there(tmp_path: Path) -> None:
    base = c.saved("llama", tmp_path / "base")
    shape = (tiny.WIDTH, tiny.WIDTH)
    with pytest.raises(TargetNotFound, match=r"nearest name is `model\.layers\.0\.self_attn\.q_proj\.weight`"):
        api.merge(base, [c.lora_at(Target("model.layers.0.self_attn.q_prox", "linear", shape))], tmp_path / "out")
    with pytest.raises(TargetNotFound, match="no targets"):
        api.merge(base, [Adapter("lora", {"r": 2}, {}, {})], tmp_path / "out")
    with pytest.raises(UsageError, match="no adapter"):
        api.merge(base, [], tmp_path / "out")
    with pytest.raises(TargetMismatch, match=r"in the base has shape \(16, 32\), wanted \(32, 32\) by the adapter"):
        api.merge(base, [c.lora_at(Target("model.layers.0.self_attn.k_proj", "linear", shape))], tmp_path / "out")


def test_one_adapter_needs_no_list(tmp_path: Path) -> None:
    """Found in 0.1.0: a path was read as a list of its letters."""
    base = c.saved("llama", tmp_path / "base")
    adapter, file = c.randomised(base), tmp_path / "a.safetensors"
    api.save(adapter, file)
    ways = {"list": [file], "path": file, "text": str(file), "adapter": adapter, "pair": (file, 1)}
    for way, given in ways.items():
        api.merge(base, given, tmp_path / way)
        assert api.verify(tmp_path / way, base, given).exact
    assert len({c.digests(tmp_path / way)["model.safetensors"] for way in ways}) == 1
    assert api.compose(adapter).adapter.targets.keys() == adapter.targets.keys()


@pytest.mark.parametrize("weight", ["high", float("nan"), True, None, torch.ones(2), 10**400])
def test_a_weight_is_one_finite_number(tmp_path: Path, weight: Any) -> None:
    base = c.saved("llama", tmp_path / "base")
    with pytest.raises(UsageError, match="wanted a finite number"):
        api.merge(base, [(c.randomised(base), weight)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_weights_than_it_was_trained_on(tmp_path: Path) -> None:
    base, other = (c.saved("llama", tmp_path / str(seed), seed=seed) for seed in (1, 2))
    adapter = c.randomised(base)
    assert adapter.base.content
    api.merge(base, [adapter], tmp_path / "out")
    with pytest.raises(ContentMismatch, match="right revision"):
        api.merge(other, [adapter], tmp_path / "no")


def test_a_bias_without_a_place(tmp_path: Path) -> None:
    base = c.saved("llama", tmp_path / "base")
    target = Target("model.layers.0.self_attn.q_proj", "linear", (tiny.WIDTH, tiny.WIDTH))
    with pytest.raises(Unsupported, match="none of its own in this base"):
        api.merge(base, [c.lora_at(target, bias=True)], tmp_path / "out")


def test_a_bias_of_another_length(tmp_path: Path) -> None:
    base = c.bare(tmp_path / "base", {"q.weight": torch.randn(8, 4), "q.bias": torch.randn(9)})
    with pytest.raises(TargetMismatch, match=r"`q\.bias` has shape \(9,\)"):
        api.merge(base, [c.lora_at(Target("q", "linear", (8, 4)), bias=True)], tmp_path / "out")


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("exact", [True, False])
def test_numbers_that_are_none(tmp_path: Path, value: float, exact: bool) -> None:
    base = c.bare(tmp_path / "base", {"q.weight": torch.randn(8, 8), "p.weight": torch.randn(8, 8)})
    good, bad = (c.lora_at(Target(name, "linear", (8, 8))) for name in "pq")
    bad.tensors["q:A"][1, 3] = value
    with pytest.raises(NonFinite, match=r"`q\.weight` would hold NaN or infinity"):
        api.merge(base, [good, bad], tmp_path / "out", receipt=exact)
    assert list(tmp_path.iterdir()) == [base]


def test_more_than_half_precision_holds(tmp_path: Path) -> None:
    base = c.bare(tmp_path / "base", {"q.weight": torch.full((8, 8), 6e4, dtype=F16)})
    adapter = c.lora_at(Target("q", "linear", (8, 8)), scale=1e4)
    with pytest.raises(NonFinite, match=r"`q\.weight` would overflow.*float16 holds"):
        api.merge(base, [adapter], tmp_path / "out")
    brink = c.bare(tmp_path / "brink", {"q.weight": torch.full((8, 8), torch.finfo(BF16).max, dtype=BF16)})
    above = Adapter("full", {}, {"q": Target("q", "linear", (8, 8))}, {"q:D": torch.full((8, 8), 1e36)}, name="q")
    with pytest.raises(NonFinite, match=r"`q\.weight` would overflow.*bfloat16 holds"):
        api.merge(brink, [above], tmp_path / "out")
    head = replacing({"classifier.weight": torch.full((2, tiny.WIDTH), 1e6)})
    with pytest.raises(NonFinite, match=r"`classifier\.weight` would overflow"):
        api.merge(c.saved("bert", tmp_path / "bert", F16), [head], tmp_path / "out")


def test_large_numbers_whose_sum_overflows_are_fine(tmp_path: Path) -> None:
    base = c.bare(tmp_path / "base", {"q.weight": torch.full((8, 8), 3e38)})
    round_trip(base, [c.lora_at(Target("q", "linear", (8, 8)), scale=1e36)], tmp_path / "out")


def test_nothing_would_change(tmp_path: Path) -> None:
    base = c.saved("llama", tmp_path / "base", BF16)
    adapter = c.randomised(base)
    fresh = adapter.replace(tensors={k: t * (not k.endswith(":B")) for k, t in adapter.tensors.items()})
    small = adapter.replace(tensors={k: t * (1e-7 if k.endswith(":B") else 1) for k, t in adapter.tensors.items()})
    for stack, reason in (
        ([fresh], "delta is zero"),
        ([(adapter, 0.0)], "delta is zero"),
        ([small], r"\de-\d+ of the"),
    ):
        with pytest.raises(NothingChanged, match=reason):
            api.merge(base, stack, tmp_path / "out")
    assert list(tmp_path.iterdir()) == [base]
    report = api.merge(base, [(small, 2e3)], tmp_path / "out")
    assert report.unchanged > 0.5
    assert "most elements did not move" in report.notes[0]


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_packed_weights_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    base = c.bare(tmp_path / "base", {"q.weight": torch.zeros(8, 8).to(dtype)})
    with pytest.raises(Unsupported, match="is said nowhere"):
        api.merge(base, [c.lora_at(Target("q", "linear", (8, 8)))], tmp_path / "out")


def test_a_quantised_base_is_refused(tmp_path: Path) -> None:
    config = {"quantization_config": {"quant_method": "strange"}}
    base = c.bare(tmp_path / "base", {"q.weight": torch.zeros(8, 8)}, config)
    with pytest.raises(Unsupported, match=r"quantised \(strange\)"):
        api.merge(base, [c.lora_at(Target("q", "linear", (8, 8)))], tmp_path / "out")
