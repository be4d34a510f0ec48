"""Composing adapters: what mixes, how it is weighed, what the result says of itself."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import adaptr
import renamed
import tiny
from adaptr.adapter import Adapter, Target
from adaptr.adapter.weighting import Layers
from adaptr.errors import (
    NoDelta,
    TargetAmbiguous,
    UsageError,
)
from composing.inputs import assert_sum, dense, filled, lora

# ---------------------------------------------------------------- what mixes


@pytest.mark.parametrize("strategy", ["linear", "cat"])
def test_ranks_alphas_dtypes_and_target_sets_mix(strategy: str) -> None:
    a = lora(1, r=2, alpha=3.0)
    b = lora(2, r=5, alpha=10.0, rslora=True, targets=["attn.q", "mlp.down"])
    c = lora(3, r=1, targets=["attn.v"])
    c = c.replace(tensors={k: t.bfloat16() for k, t in c.tensors.items()})
    made = adaptr.compose([(a, 0.7), (b, -0.3), (c, 2.0)], strategy)
    assert_sum(made.adapter, [(a, 0.7), (b, -0.3), (c, 2.0)])
    assert (made.adapter.method, made.report.ranks, made.report.alone) == ("lora", (2, 7), 14)
    assert made.report.error == 0.0


@pytest.mark.parametrize("method", ["loha", "lokr", "adalora", "vera", "shira", "full"])
def test_methods_mix(method: str) -> None:
    config = {} if method in {"full", "shira"} else {"r": 2}
    a, b = lora(1), filled(adaptr.create(tiny.model("llama"), method, **config), 2)
    made = adaptr.compose([(a, 0.5), (b, 0.5)])
    assert_sum(made.adapter, [(a, 0.5), (b, 0.5)])
    cut = adaptr.compose([(a, 0.5), (b, 0.5)], rank=3)
    assert (cut.adapter.method, cut.report.ranks) == ("lora", (3, 3))
    assert 0 < cut.report.error < 1


@pytest.mark.parametrize("method", ["dora", "ia3", "oft"])
def test_transforms_are_exact_against_their_base_and_refused_without(method: str) -> None:
    model = tiny.model("llama")
    a, b = lora(1), filled(adaptr.create(model, method), 2)
    with pytest.raises(NoDelta, match="give the base"):
        adaptr.compose([a, b])
    made = adaptr.compose([(a, 0.5), (b, 0.5)], base=model)
    assert_sum(made.adapter, [(a, 0.5), (b, 0.5)], model)


def test_a_composition_does_what_its_inputs_do_together() -> None:
    model, x = tiny.model("llama"), tiny.inputs("llama")
    a, b = lora(1), lora(2)
    made = adaptr.compose([(a, 0.6), (b, 0.4)]).adapter
    with adaptr.attach(model, a, 0.6), adaptr.attach(model, b, 0.4):
        want = model(**x).logits
    with adaptr.attach(model, made):
        torch.testing.assert_close(model(**x).logits, want, rtol=1e-4, atol=1e-5)


def test_convolutions_and_look_up_tables() -> None:
    g = torch.Generator().manual_seed(0)
    places = [Target("conv", "conv2d", (6, 4, 3, 3)), Target("wte", "embedding", (8, 20))]
    shapes = {"conv": ((2, 4, 3, 3), (6, 2, 1, 1)), "wte": ((2, 20), (8, 2))}
    both = []
    for _ in "ab":
        config = {"r": 2, "alpha": 2.0, "dropout": 0.0, "rslora": False, "bias": False}
        tensors = {}
        for path, (A, B) in shapes.items():
            tensors |= {f"{path}:A": torch.randn(A, generator=g), f"{path}:B": torch.randn(B, generator=g)}
        targets = {p.path: Target(p.path, p.kind, p.shape, config) for p in places}
        both.append(Adapter("lora", config, targets, tensors))
    for strategy, options in (("linear", {}), ("svd", {"rank": 3}), ("tsv", {}), ("ties", {"density": 1.0})):
        made = adaptr.compose([(both[0], 0.5), (both[1], 0.5)], strategy, **options).adapter
        assert {p: t.shape for p, t in made.targets.items()} == {p.path: p.shape for p in places}
        if strategy == "linear":
            assert_sum(made, [(both[0], 0.5), (both[1], 0.5)])


# ---------------------------------------------------------------- weights


def test_weights_by_pattern_and_as_gradients() -> None:
    a, b = lora(1), lora(2)
    made = adaptr.compose([(a, {"*": 1.0, "*.mlp.*": 0.25}), (b, [0.0, 1.0])]).adapter
    found, da, db = dense(made), dense(a), dense(b)
    for path in da:
        want = (0.25 if ".mlp." in path else 1.0) * da[path] + (0.0 if ".0." in path else 1.0) * db[path]
        torch.testing.assert_close(found[path], want, rtol=1e-5, atol=1e-6)


def test_gradients_run_over_the_layers() -> None:
    layers = Layers([*(f"encoder.block.{i}.q" for i in range(5)), *(f"decoder.block.{i}.q" for i in range(3)), "head"])
    assert [layers.weight([0.0, 1.0], f"encoder.block.{i}.q", "a") for i in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert [layers.weight([0.0, 4.0, 0.0], f"decoder.block.{i}.q", "a") for i in range(3)] == [0, 4, 0]
    assert layers.weight([3.0], "encoder.block.2.q", "a") == 3
    with pytest.raises(UsageError, match="is in none"):
        layers.weight([0.0, 1.0], "head", "a")
    with pytest.raises(UsageError, match="no pattern"):
        layers.weight({"*.k": 1.0}, "head", "a")


def test_normalized_weights_add_up_to_one() -> None:
    a, b = lora(1), lora(2, targets=["attn.q"])
    made = adaptr.compose([(a, 3.0), (b, 1.0)], normalize=True).adapter
    assert_sum(made, [(a, 0.75), (b, 0.25)])
    with pytest.raises(UsageError, match="add up to zero"):
        adaptr.compose([(a, 1.0), (b, -1.0)], normalize=True)


# ---------------------------------------------------------------- the result


def test_lineage_names_inputs_by_digest_and_not_by_place(tmp_path: Path) -> None:
    for seed in (1, 2):
        adaptr.save(lora(seed), tmp_path / f"{seed}.safetensors")
        (tmp_path / "moved").mkdir(exist_ok=True)
        adaptr.save(lora(seed), tmp_path / "moved" / f"other{seed}.safetensors")
    first = adaptr.compose([tmp_path / "1.safetensors", (tmp_path / "2.safetensors", 0.5)], out=tmp_path / "x")
    moved = tmp_path / "moved"
    adaptr.compose([moved / "other1.safetensors", (moved / "other2.safetensors", 0.5)], out=tmp_path / "y")
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    lineage = adaptr.load(tmp_path / "x").lineage
    assert lineage["operation"] == "compose"
    assert lineage["arguments"] == {"strategy": "linear", "config": {}, "weights": [1.0, 0.5]}
    assert [p["digest"] for p in lineage["parents"]] == [one["digest"] for one in first.report.inputs]
    assert first.report.digest.startswith("sha256:")


@pytest.mark.parametrize("strategy", ["linear", "svd", "dare-ties", "ties", "knots"])
def test_the_same_bytes_for_any_number_of_threads(
    strategy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = [(lora(1), 0.6), (lora(2), 0.4)]
    options = {"rank": 3} if strategy == "svd" else {}
    written = []
    for number, (threads, workers) in enumerate(((1, 1), (2, 4))):
        monkeypatch.setattr("adaptr.bulk.workers.MOST", workers)
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            adaptr.compose(inputs, strategy, tmp_path / str(number), **options)
        finally:
            torch.set_num_threads(before)
        written.append((tmp_path / str(number)).read_bytes())
    assert written[0] == written[1]


def test_the_seed_matters_and_the_name_does_not() -> None:
    a, b = lora(1), lora(2)
    made = [adaptr.compose([x, b], "dare", seed=s).adapter for x, s in ((a, 0), (a.replace(name="x"), 0), (a, 1))]
    first, renamed, other = (dense(m) for m in made)
    path = next(iter(first))
    assert torch.equal(first[path], renamed[path])
    assert not torch.equal(first[path], other[path])


def test_the_base_is_kept_and_its_content_only_for_the_same_targets() -> None:
    a, b, c = lora(1), lora(2), lora(3, targets=["attn.q"])
    assert adaptr.compose([a, b]).adapter.base == a.base
    mixed = adaptr.compose([a, c]).adapter.base
    assert (mixed.structure, mixed.content) == (a.base.structure, "")


def test_errors_are_those_of_the_whole() -> None:
    a, b = lora(1), lora(2)
    made = adaptr.compose([(a, 0.5), (b, 0.5)], "svd", rank=2)
    found, gap, size = dense(made.adapter), 0.0, 0.0
    for path, D in dense(adaptr.compose([(a, 0.5), (b, 0.5)]).adapter).items():
        gap += float((found[path] - D).square().sum())
        size += float(D.square().sum())
    assert made.report.error == pytest.approx(math.sqrt(gap / size), rel=1e-4)
    assert made.report.distance == pytest.approx(made.report.error)
    assert set(made.report.errors) == set(found)


def test_energy_chooses_the_rank_of_each_target() -> None:
    made = adaptr.compose([lora(1), lora(2)], "svd", energy=0.9)
    assert made.report.ranks[0] < 8
    assert all(error <= math.sqrt(0.1) + 1e-9 for error, _ in made.report.errors.values())


def test_a_delta_stays_on_disk_until_it_is_written(tmp_path: Path) -> None:
    made = adaptr.compose([lora(1), lora(2)], "ties", tmp_path / "x")
    assert made.adapter.method == "full"
    back = adaptr.load(tmp_path / "x")
    for key in made.adapter.tensors:
        assert torch.equal(back.tensors[key], made.adapter.tensors[key])


# ---------------------------------------------------------------- two names of one place


def test_two_names_of_one_place_are_not_two_places() -> None:
    a = lora(1)
    paths = {path: f"language_model.{path}" for path in a.targets}
    turned = lora(2).renamed({path: f"model.language_model.{path.removeprefix('model.')}" for path in a.targets})
    with pytest.raises(TargetAmbiguous, match=r"two names of one place.*`base=`"):
        adaptr.compose([a.renamed(paths), turned])
    other = lora(2).renamed({path: f"decoder.{path}" for path in a.targets})
    assert adaptr.compose([a.renamed(paths), other]).report.alone == 2 * len(a.targets)


def test_places_that_differ_in_the_order_of_their_numbers_are_two() -> None:
    """Expert 1 of layer 0 and expert 0 of layer 1, as each expert's own layers are called."""
    a = lora(1)
    places = [f"model.layers.{i}.mlp.experts.{j}.w1" for i in range(2) for j in range(2)]
    paths = dict(zip(a.targets, places, strict=False))
    inputs = [lora(seed).renamed(paths) for seed in (1, 2)]
    assert adaptr.compose(inputs).report.alone == 0


def test_two_names_of_one_place_are_one_by_the_base(tmp_path: Path) -> None:
    model = renamed.model("llava")
    model.save_pretrained(tmp_path)
    a, b = (filled(adaptr.create(model, "lora", ["attn.q"], r=2), seed, f"a{seed}") for seed in (1, 2))
    other = b.renamed({path: path.replace("model.language_model", "language_model.model") for path in b.targets})
    for base in (tmp_path, model):
        made = adaptr.compose([a, other], base=base)
        assert made.report.alone == 0
        assert_sum(made.adapter, [(a, 1.0), (b, 1.0)])
