"""Merging is what attaching is, verify proves it, and unmerging gives every file back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import checkpoints as c
import tiny
from adaptr import api
from adaptr.adapter import Adapter, Target
from adaptr.algebra.portable import Portable
from adaptr.errors import (
    AlreadyAttached,
    ContentMismatch,
    InputError,
    NonFinite,
    NothingChanged,
    NotMergeable,
    NotPossible,
    OutputExists,
    TargetMismatch,
    TargetNotFound,
    Unsupported,
    UsageError,
)
from adaptr.files import record
from adaptr.merging import receipt

BF16, F16, F32, F64 = torch.bfloat16, torch.float16, torch.float32, torch.float64


def round_trip(base: Path, stack: list[Any], out: Path, **options: Any) -> Any:
    """Merge, prove, take out again; the report of the merge."""
    before = c.digests(base)
    report = api.merge(base, stack, out, **options)
    verdict = api.verify(out, base, stack, tied=options.get("tied"))
    assert verdict.exact
    assert verdict.ok
    api.unmerge(out, out.with_name("back"))
    assert c.digests(out.with_name("back")) == before == c.digests(base)
    return report


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


# ---------------------------------------------------------------- replaced parameters


def replacing(values: dict[str, Tensor], seed: int = 0) -> Adapter:
    adapter = c.lora_at(Target("bert.pooler.dense", "linear", (tiny.WIDTH, tiny.WIDTH)), seed=seed)
    return adapter.replace(tensors={**adapter.tensors, **{f"{k}:=": v for k, v in values.items()}})


@pytest.mark.parametrize("shard", ["5GB", "40KB"])
@pytest.mark.parametrize("classes", [2, 5])
def test_replaced_parameters_of_the_same_and_of_another_shape(tmp_path: Path, classes: int, shard: str) -> None:
    base = c.saved("bert", tmp_path / "base", BF16, shard=shard)
    values = {"classifier.weight": torch.randn(classes, tiny.WIDTH), "classifier.bias": torch.randn(classes)}
    report = round_trip(base, [replacing(values)], tmp_path / "out")
    assert report.added == ([] if classes == 2 else sorted(values))
    found = c.tensors_of(tmp_path / "out")
    assert all(torch.equal(found[k], v.to(BF16)) for k, v in values.items())


def test_a_replaced_parameter_that_the_base_lacks_is_added_and_loads(tmp_path: Path) -> None:
    whole = c.saved("bert", tmp_path / "whole", shard="40KB")
    headless = c.model_of(whole).bert
    headless.save_pretrained(tmp_path / "base", max_shard_size="40KB")
    values = {"classifier.weight": torch.randn(2, tiny.WIDTH), "classifier.bias": torch.randn(2)}
    report = round_trip(tmp_path / "base", [replacing(values)], tmp_path / "out")
    assert report.added == sorted(values)
    from transformers import BertForSequenceClassification

    model, told = BertForSequenceClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not told["missing_keys"]
    assert not told["unexpected_keys"]
    assert torch.equal(model.classifier.weight, values["classifier.weight"])


def test_two_hands_on_one_parameter_are_refused(tmp_path: Path) -> None:
    base = c.saved("bert", tmp_path / "base")
    one, two = (replacing({"classifier.weight": torch.randn(2, tiny.WIDTH)}, seed=i) for i in (0, 1))
    lora = c.lora_at(Target("classifier", "linear", (2, tiny.WIDTH)))
    for stack in ([one, two], [one, lora], [lora, one]):
        with pytest.raises(NotPossible, match="replaced as a whole by one adapter"):
            api.merge(base, stack, tmp_path / "out")
    with pytest.raises(NotPossible, match=r"no strength 0\.5"):
        api.merge(base, [(one, 0.5)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- merging again


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


# ---------------------------------------------------------------- refusals


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
    with pytest.raises(TargetMismatch, match=r"has shape \(16, 32\) in the base, the adapter wants \(32, 32\)"):
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
    with pytest.raises(Unsupported, match="requantise"):
        api.merge(base, [c.lora_at(Target("q", "linear", (8, 8)))], tmp_path / "out")


def test_a_quantised_base_is_refused(tmp_path: Path) -> None:
    config = {"quantization_config": {"quant_method": "bitsandbytes"}}
    base = c.bare(tmp_path / "base", {"q.weight": torch.zeros(8, 8)}, config)
    with pytest.raises(Unsupported, match=r"quantised \(bitsandbytes\)"):
        api.merge(base, [c.lora_at(Target("q", "linear", (8, 8)))], tmp_path / "out")


def test_what_is_there_stays_unless_forced(tmp_path: Path) -> None:
    base = c.saved("llama", tmp_path / "base")
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    with pytest.raises(OutputExists):
        api.merge(base, [c.randomised(base)], out)
    assert [p.name for p in out.iterdir()] == ["mine"]
    with pytest.raises(OutputExists, match="`mine`"):
        api.merge(base, [c.randomised(base)], out, force=True)
    assert [p.name for p in out.iterdir()] == ["mine"]
    (out / "mine").unlink()
    for seed in (1, 2):
        api.merge(base, [c.randomised(base, seed=seed)], out, force=True)
        assert api.verify(out, base, [c.randomised(base, seed=seed)]).exact


def test_a_single_file_has_nothing_beside_it(tmp_path: Path) -> None:
    base = c.saved("llama", tmp_path / "base")
    file = base / "model.safetensors"
    report = api.merge(file, [c.randomised(base)], tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"model.safetensors", receipt.FOLDER, record.NAME}
    assert report.receipt_bytes
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert (tmp_path / "back/model.safetensors").read_bytes() == file.read_bytes()


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    adapter = c.lora_at(Target("q", "linear", (8, 8)))
    with pytest.raises(InputError, match="there is no checkpoint"):
        api.merge(tmp_path / "nowhere", [adapter], tmp_path / "out")


def test_layers_that_only_add_are_one_product_for_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merging with a receipt asks for what the adapters add to a block once."""
    base = c.bare(tmp_path / "base", {"q.weight": torch.randn(64, 48).bfloat16()})
    adapters = [c.lora_at(Target("q", "linear", (64, 48)), seed=seed) for seed in (1, 2)]
    asked: list[slice] = []
    real = Portable.add_rows
    monkeypatch.setattr(Portable, "add_rows", lambda op, W, s: (asked.append(s), real(op, W, s))[1])
    api.merge(base, adapters, tmp_path / "out")
    assert len(asked) == len(adapters)
    monkeypatch.undo()
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert (tmp_path / "back/model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
