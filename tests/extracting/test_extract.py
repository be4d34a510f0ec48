"""Adapters out of checkpoint pairs: attached or merged they are the tuned model, up to the error that is declared."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch

import checkpoints
from adaptr import api, errors
from adaptr.changes.deltas import deltas
from adaptr.extracting.extract import ExtractReport, extract
from adaptr.models import tying
from checkpoints import bare, model_of, tensors_of
from extracting.pairs import Pair

KINDS = ["llama", "gpt2", "qwen2", "bert"]


@pytest.mark.parametrize("kind", KINDS)
def test_at_full_rank_the_attached_adapter_is_the_tuned_model(kind: str, pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair(kind)
    report = extract(base, tuned, tmp_path / "x.safetensors", rank=32)
    assert report.error < 1e-5
    model = model_of(base)
    with torch.no_grad():
        api.attach(model, api.load(tmp_path / "x.safetensors"))
    assert torch.allclose(checkpoints.logits(model, kind), checkpoints.logits(model_of(tuned), kind), atol=1e-4)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen2"])
def test_of_what_a_table_has_transformers_is_not_asked(
    kind: str, pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, tuned = pair(kind)
    tying._known.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers", None)  # an import of it is an error
    assert extract(base, tuned, tmp_path / "x.safetensors", rank=2).targets


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_merged_it_misses_the_tuned_weights_by_the_declared_error(kind: str, pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair(kind)
    report = extract(base, tuned, tmp_path / "x.safetensors", rank=4)
    api.merge(base, [tmp_path / "x.safetensors"], tmp_path / "merged", receipt=False)
    assert_missed_by(report, base, tuned, tmp_path / "merged", set(api.load(tmp_path / "x.safetensors").targets))
    assert report.ranks == {4: report.targets}


def assert_missed_by(report: ExtractReport, base: Path, tuned: Path, merged: Path, targets: set[str]) -> None:
    before, want, got = tensors_of(base), tensors_of(tuned), tensors_of(merged)
    weights = [name for name in want if name.removesuffix(".weight") in targets]
    missed = math.sqrt(sum(float((got[n] - want[n]).double().square().sum()) for n in weights))
    moved = math.sqrt(sum(float((want[n] - before[n]).double().square().sum()) for n in weights))
    assert missed / moved == pytest.approx(report.error, rel=1e-4)
    for name in set(want) - set(weights):
        assert torch.allclose(got[name], want[name], atol=1e-6), name


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_diff_finds_the_tuned_checkpoint_in_it(kind: str, pair: Pair, tmp_path: Path) -> None:
    from adaptr.diffing.diff import diff

    base, tuned = pair(kind)
    extract(base, tuned, tmp_path / "x.safetensors", rank=32)
    found = diff(tmp_path / "x.safetensors", tuned, base)
    assert {t.path for t in found.targets} >= set(api.load(tmp_path / "x.safetensors").targets)
    assert all(t.difference < 1e-5 * t.norm_a for t in found.targets)


def test_tied_weights_change_in_both_uses_and_merge_untied(pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair("gpt2")
    report = extract(base, tuned, tmp_path / "x.safetensors", rank=32)
    assert any("untie" in note for note in report.notes)
    assert {"lm_head", "transformer.wte"} <= set(api.load(tmp_path / "x.safetensors").targets)
    with pytest.raises(errors.TiedWeights):
        api.merge(base, [tmp_path / "x.safetensors"], tmp_path / "merged")
    api.merge(base, [tmp_path / "x.safetensors"], tmp_path / "merged", tied="untie", receipt=False)
    got, want = (checkpoints.logits(model_of(p), "gpt2") for p in (tmp_path / "merged", tuned))
    assert torch.allclose(got, want, atol=1e-4)


def test_each_error_is_that_of_the_dense_optimum(pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair("llama")
    report = extract(base, tuned, tmp_path / "x.safetensors", rank=3)
    one, two = tensors_of(base), tensors_of(tuned)
    for fitted in report.worst:
        S = torch.linalg.svdvals((two[f"{fitted.path}.weight"] - one[f"{fitted.path}.weight"]).double())
        assert fitted.error == pytest.approx(float(S[3:].norm() / S.norm()), rel=1e-4)


def test_energy_keeps_its_share_everywhere(pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair("llama")
    report = extract(base, tuned, tmp_path / "x.safetensors", energy=0.9)
    assert all(f.error**2 <= 0.1 + 1e-6 for f in report.worst)
    assert report.error > 0.1


def test_half_precision_checkpoints_are_subtracted_in_fp32(pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair("llama", torch.bfloat16)
    extract(base, tuned, tmp_path / "x.safetensors", rank=32)
    made = deltas(api.load(tmp_path / "x.safetensors"))
    one, two = tensors_of(base), tensors_of(tuned)
    for path in made:
        D = two[f"{path}.weight"].float() - one[f"{path}.weight"].float()
        D = D.T if made.targets[path].transposed else D
        assert torch.allclose(made[path].dense(), D, atol=1e-5)


def test_the_bytes_repeat_and_name_both_parents(pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair("llama")
    for name in ("one", "two"):
        extract(base, tuned, tmp_path / name, rank=2)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    lineage = api.load(tmp_path / "one").lineage
    assert [p["role"] for p in lineage["parents"]] == ["base", "tuned"]
    assert len({p["digest"] for p in lineage["parents"]}) == 2
    assert str(tmp_path) not in json.dumps(lineage)


def test_the_base_is_known_by_its_weights(pair: Pair, tmp_path: Path) -> None:
    base, tuned = pair("llama")
    extract(base, tuned, tmp_path / "x.safetensors", rank=2)
    with pytest.raises(errors.ContentMismatch):
        api.merge(tuned, [tmp_path / "x.safetensors"], tmp_path / "merged")


def test_without_a_configuration_names_and_shapes_decide(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    one = {"model.embed_tokens.weight": torch.randn(20, 8, generator=g), "q.weight": torch.randn(6, 8, generator=g)}
    two = {key: value + torch.randn(value.shape, generator=g) for key, value in one.items()}
    base, tuned = bare(tmp_path / "a", one), bare(tmp_path / "b", two)
    extract(base, tuned, tmp_path / "x.safetensors", rank=8)
    targets = api.load(tmp_path / "x.safetensors").targets
    assert {p: (t.kind, t.shape) for p, t in targets.items()} == {
        "model.embed_tokens": ("embedding", (8, 20)),
        "q": ("linear", (6, 8)),
    }
    api.merge(base, [tmp_path / "x.safetensors"], tmp_path / "merged", receipt=False)
    assert all(torch.allclose(tensors_of(tmp_path / "merged")[k], two[k], atol=1e-5) for k in two)
