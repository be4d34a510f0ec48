"""Merging is what attaching is, verify proves it, and unmerging gives every file back."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

import checkpoints as c
from adaptr import api
from adaptr.adapter import Adapter, Target
from adaptr.errors import (
    AlreadyAttached,
    TargetMismatch,
    TargetNotFound,
    Unsupported,
)
from merging.round_trips import BF16, F16, F32, F64, round_trip

CASES = {
    "lora": ("llama", F32, [("lora", "all-linear", {"r": 3})]),
    "lora bf16": ("llama", BF16, [("lora", "all-linear", {"r": 3})]),
    "lora fp16": ("llama", F16, [("lora", "all-linear", {})]),
    "lora fp64": ("llama", F64, [("lora", "all-linear", {})]),
    "lora Conv1D": ("gpt2", BF16, [("lora", "all-linear", {"rslora": True})]),
    "lora look-up": ("bert", F32, [("lora", "embed", {})]),
    "lora bias": ("bert", BF16, [("lora", "mlp.down", {"bias": True})]),
    "lora convolution": ("vit", F32, [("lora", "re:.*projection", {})]),
    "lora experts": ("gpt-oss", BF16, [("lora", "re:.*experts.*", {})]),
    "dora": ("llama", BF16, [("dora", "all-linear", {})]),
    "dora fp64": ("llama", F64, [("dora", "all-linear", {})]),
    "dora Conv1D": ("gpt2", F32, [("dora", "all-linear", {})]),
    "ia3": ("gpt2", F16, [("ia3", None, {})]),
    "bitfit": ("bert", BF16, [("bitfit", None, {})]),
    "bitfit fp64": ("gpt2", F64, [("bitfit", None, {})]),
    "dora on lora": ("llama", BF16, [("lora", "all-linear", {}), ("dora", "attn.q", {})]),
    "lora, dora, ia3, bitfit": (
        "gpt2",
        BF16,
        [("lora", "all-linear", {}), ("dora", "mlp.down", {}), ("ia3", None, {}), ("bitfit", None, {})],
    ),
    "ia3 below lora": ("llama", F32, [("ia3", None, {}), ("lora", "attn.v", {})]),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_merged_is_attached_and_comes_out_again(tmp_path: Path, case: str) -> None:
    kind, dtype, layers = CASES[case]
    base = c.saved(kind, tmp_path / "base", dtype, shard="40KB")
    weights = [1.0, 0.5, 0.75, 1.0]
    stack = [
        (c.randomised(base, method, targets, seed=i, **config), weights[i])
        for i, (method, targets, config) in enumerate(layers)
    ]
    report = round_trip(base, stack, tmp_path / "out")
    assert report.relative_delta > 0 or "bitfit" in case
    model = c.model_of(base).float()
    before = c.logits(model, kind)
    for adapter, weight in stack:
        api.attach(model, adapter, weight)
    attached, merged = c.logits(model, kind), c.logits(c.model_of(tmp_path / "out").float(), kind)
    precision = {BF16: 0.02, F16: 0.003}.get(dtype, 1e-5)
    assert (attached - before).norm() / before.norm() > 0.01
    assert (attached - merged).norm() / (attached - before).norm() < precision * 5


def test_the_formula_in_fp32_rounded_once(tmp_path: Path) -> None:
    W = {"q": torch.randn(48, 32).to(BF16)}
    base = c.bare(tmp_path / "base", {"q.weight": W["q"]})
    a, b = (c.lora_at(Target("q", "linear", (48, 32)), seed=i, r=r) for i, r in ((1, 2), (2, 5)))
    report = round_trip(base, [(a, 0.5), (b, -2.0)], tmp_path / "out")
    want = W["q"].float() + 0.5 * c.delta(a, "q") - 2 * c.delta(b, "q")
    found = c.tensors_of(tmp_path / "out")["q.weight"]
    assert (found == want.to(BF16)).float().mean() > 0.999
    change = (want - W["q"].float()).norm() / W["q"].float().norm()
    assert report.relative_delta == pytest.approx(float(change), rel=1e-4)
    assert report.unchanged == pytest.approx(float((found == W["q"]).float().mean()))
    assert (report.targets, report.tensors, report.added) == (2, 1, [])


def test_square_conv1d_is_turned_and_never_guessed(tmp_path: Path) -> None:
    base = c.saved("gpt2", tmp_path / "base")
    path = "transformer.h.0.attn.c_proj"
    W = c.tensors_of(base)[f"{path}.weight"]
    right, wrong = (c.lora_at(Target(path, kind, W.shape[::-1])) for kind in ("linear_t", "linear"))
    round_trip(base, [right], tmp_path / "out")
    found = c.tensors_of(tmp_path / "out")[f"{path}.weight"]
    assert torch.allclose(found, W + c.delta(right, path).t(), atol=1e-6)
    with pytest.raises(TargetMismatch, match="square matrix hides"):
        api.merge(base, [wrong], tmp_path / "no")


PHI = {"model_type": "phi3", "num_attention_heads": 4, "num_key_value_heads": 2}


def test_adapters_of_split_layers_go_into_the_rows_of_the_fused_one(tmp_path: Path) -> None:
    W, G = torch.randn(64, 32).to(BF16), torch.randn(96, 32).to(BF16)
    base = c.bare(tmp_path / "base", {"l.attn.qkv_proj.weight": W, "l.mlp.gate_up_proj.weight": G}, PHI)
    places = {"l.attn.q_proj": (32, 0), "l.attn.v_proj": (16, 48), "l.mlp.up_proj": (48, 48)}
    stack = [c.lora_at(Target(p, "linear", (rows, 32)), seed=i) for i, (p, (rows, _)) in enumerate(places.items())]
    report = round_trip(base, stack, tmp_path / "out")
    assert report.tensors == 2
    found = c.tensors_of(tmp_path / "out")
    qkv, gate_up = W.float(), G.float()
    for adapter, (path, (rows, start)) in zip(stack, places.items(), strict=True):
        whole = qkv if "attn" in path else gate_up
        whole[start : start + rows] += c.delta(adapter, path)
    assert torch.allclose(found["l.attn.qkv_proj.weight"].float(), qkv, rtol=0.01)
    assert torch.allclose(found["l.mlp.gate_up_proj.weight"].float(), gate_up, rtol=0.01)
    assert torch.equal(found["l.attn.qkv_proj.weight"][32:48], W[32:48])


def test_a_fused_bias_is_not_left_out(tmp_path: Path) -> None:
    tensors = {"l.qkv_proj.weight": torch.randn(64, 32), "l.qkv_proj.bias": torch.randn(64)}
    base = c.bare(tmp_path / "base", tensors, PHI)
    target = Target("l.v_proj", "linear", (16, 32), {"side": "out"})
    ia3 = Adapter("ia3", {"side": "out"}, {target.path: target}, {"l.v_proj:l": torch.rand(16)})
    with pytest.raises(Unsupported, match="changes the bias"):
        api.merge(base, [ia3], tmp_path / "out")


def test_a_fused_layer_and_its_part_are_not_mixed(tmp_path: Path) -> None:
    base = c.bare(tmp_path / "base", {"l.qkv_proj.weight": torch.randn(64, 32)}, PHI)
    stack = [c.lora_at(Target("l.qkv_proj", "linear", (64, 32))), c.lora_at(Target("l.q_proj", "linear", (32, 32)))]
    with pytest.raises(Unsupported, match="as a whole and as one of its fused parts"):
        api.merge(base, stack, tmp_path / "out")
    odd = c.bare(tmp_path / "odd", {"l.qkv_proj.weight": torch.randn(65, 32)}, PHI)
    with pytest.raises(TargetMismatch, match="fused rows"):
        api.merge(odd, [c.lora_at(Target("l.q_proj", "linear", (32, 32)))], tmp_path / "out")


@pytest.mark.parametrize("kind", ["experts", "experts_t"])
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_stacks_of_experts(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    target = Target("m.experts.down_proj", kind, (3, 16, 24))
    W = torch.randn(target.stored_shape).to(dtype)
    adapter = c.lora_at(target)
    round_trip(c.bare(tmp_path / "base", {target.path: W}), [adapter], tmp_path / "out")
    D = c.delta(adapter, target.path)
    want = W.float() + (D if kind == "experts" else D.transpose(1, 2))
    assert torch.allclose(c.tensors_of(tmp_path / "out")[target.path].float(), want, rtol=0.01, atol=1e-5)


def test_experts_stored_apart_are_refused_with_the_reason(tmp_path: Path) -> None:
    base = c.bare(tmp_path / "base", {f"m.experts.{i}.down_proj.weight": torch.randn(16, 24) for i in range(3)})
    with pytest.raises(TargetNotFound, match="stores each expert"):
        api.merge(base, [c.lora_at(Target("m.experts.down_proj", "experts", (3, 16, 24)))], tmp_path / "out")


def test_what_is_not_touched_passes_byte_for_byte(tmp_path: Path) -> None:
    tensors: dict[str, Tensor] = {
        "q.weight": torch.randn(8, 8),
        "scalar": torch.tensor(3.5),
        "step": torch.tensor(7),
        "mask": torch.tensor([True, False, True]),
        "codes": torch.arange(5, dtype=torch.int8),
        "empty": torch.zeros(0, 4),
        "eight": torch.randn(6).to(torch.float8_e4m3fn),
        "wild": torch.tensor([math.nan, math.inf, -0.0]),
        "odd": torch.randn(3).to(BF16),
    }
    base = c.bare(tmp_path / "base", tensors)
    round_trip(base, [c.lora_at(Target("q", "linear", (8, 8)))], tmp_path / "out")
    for name, tensor in c.tensors_of(tmp_path / "out").items():
        if name != "q.weight":
            assert tensor.dtype == tensors[name].dtype
            assert bytes(tensor.reshape(-1).view(torch.uint8)) == bytes(tensors[name].reshape(-1).view(torch.uint8))


@pytest.mark.parametrize("scheme", ["fp16", "bf16", "int8"])
def test_stored_in_fewer_bits(tmp_path: Path, scheme: str) -> None:
    base = c.saved("llama", tmp_path / "base", BF16)
    adapter = api.quantize(c.randomised(base), scheme)
    round_trip(base, [adapter], tmp_path / "out")


def test_strided_and_unaligned_tensors_merge_as_their_copies(tmp_path: Path) -> None:
    base = c.bare(tmp_path / "base", {"q.weight": torch.randn(40, 24)})
    plain = c.lora_at(Target("q", "linear", (40, 24)), r=7)
    strange = plain.replace(
        tensors={
            k: torch.cat([torch.zeros(3), t.t().reshape(-1)])[3:].view(t.t().shape).t()
            for k, t in plain.tensors.items()
        }
    )
    round_trip(base, [strange], tmp_path / "out")
    api.merge(base, [plain], tmp_path / "plain")
    assert c.digests(tmp_path / "out") == c.digests(tmp_path / "plain")


def test_a_merge_on_a_merge_comes_out_twice(tmp_path: Path) -> None:
    base = c.saved("llama", tmp_path / "base", BF16, shard="40KB")
    first, second = c.randomised(base, seed=1), c.randomised(base, "dora", "attn.v", seed=2)
    api.merge(base, [first], tmp_path / "one")
    after_one = c.digests(tmp_path / "one")
    api.merge(tmp_path / "one", [second.replace(base=first.base.__class__())], tmp_path / "two")
    for adapter in (first, second):
        with pytest.raises(AlreadyAttached, match="merged into `two` already"):
            api.merge(tmp_path / "two", [adapter], tmp_path / "three")
    api.unmerge(tmp_path / "two", tmp_path / "back to one")
    assert c.digests(tmp_path / "back to one") == after_one
    api.unmerge(tmp_path / "back to one", tmp_path / "back")
    assert c.digests(tmp_path / "back") == c.digests(base)


def test_the_same_adapter_twice_is_refused(tmp_path: Path) -> None:
    base = c.saved("llama", tmp_path / "base")
    adapter = c.randomised(base)
    with pytest.raises(AlreadyAttached, match="given twice"):
        api.merge(base, [adapter, (adapter.replace(name="other"), 0.5)], tmp_path / "out")
    assert not (tmp_path / "out").exists()
