"""What a diff says of two adapters or checkpoints in files, with a base and without, and what can't be compared."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import checkpoints
import tiny
from adaptr import api, errors
from adaptr.adapter import Adapter, Target
from adaptr.diffing.diff import diff
from checkpoints import bare, lora_at

PLACE = Target("model.layers.0.q_proj", "linear", (12, 10))


# ---------------------------------------------------------------- of files


def saved(tmp_path: Path, name: str, adapter: Adapter) -> Path:
    api.save(adapter, tmp_path / f"{name}.safetensors")
    return tmp_path / f"{name}.safetensors"


def test_an_adapter_is_equal_to_its_copy(tmp_path: Path) -> None:
    a, b = (saved(tmp_path, n, lora_at(PLACE)) for n in "ab")
    found = diff(a, b)
    assert (found.equal, found.same_change, found.header, found.counts) == (True, True, (), {"same": 1})


def test_the_header_says_what_differs_and_needs_no_weights(tmp_path: Path) -> None:
    a = saved(tmp_path, "a", lora_at(PLACE).replace(name="one"))
    b = saved(tmp_path, "b", lora_at(PLACE, r=3).replace(name="two"))
    found = diff(a, b, header=True)
    fields = {f.name: (f.a, f.b) for f in found.header}
    assert fields["name"] == ("one", "two")
    assert fields["method.config.r"] == (2, 3)
    assert fields[f"targets.{PLACE.path}.config.r"] == (2, 3)
    assert "weights" in fields
    assert (found.equal, found.same_change, found.targets) == (False, None, ())


def test_another_name_alone_is_a_difference_but_the_same_change(tmp_path: Path) -> None:
    a = saved(tmp_path, "a", lora_at(PLACE))
    b = saved(tmp_path, "b", lora_at(PLACE).replace(name="other"))
    found = diff(a, b)
    assert (found.equal, found.same_change) == (False, True)
    assert [f.name for f in found.header] == ["name"]


def test_targets_of_one_side_and_biases(tmp_path: Path) -> None:
    other = Target("model.layers.1.q_proj", "linear", (12, 10))
    one, two = lora_at(PLACE, bias=True), lora_at(other, seed=1)
    a, b = saved(tmp_path, "a", one), saved(tmp_path, "b", two)
    found = diff(a, b)
    assert {t.path: t.state for t in found.targets} == {PLACE.path: "only a", other.path: "only b"}
    assert [(o.path, o.what, o.state) for o in found.others] == [(f"{PLACE.path}.bias", "bias", "only a")]
    assert found.interference is not None
    assert "different weights" in found.interference.words[0]


@pytest.mark.parametrize(("weight", "word"), [(1.0, "do the same"), (-1.0, "cancel")])
def test_the_summary_says_what_the_figures_say(tmp_path: Path, weight: float, word: str) -> None:
    one = lora_at(PLACE)
    two = one.replace(tensors={k: t * (1.01 * weight if k.endswith(":B") else 1.0) for k, t in one.tensors.items()})
    found = diff(saved(tmp_path, "a", one), saved(tmp_path, "b", two)).interference
    assert found is not None
    assert found.cosine == pytest.approx(weight)
    assert found.kept == pytest.approx(2.0 if weight > 0 else 0.0, abs=1e-3)
    assert any(word in text for text in found.words)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A base, a LoRA for it, and the base with it merged."""
    root = tmp_path_factory.mktemp("pair")
    base = checkpoints.saved("llama", root / "base")
    adapter = checkpoints.randomised(base)
    api.save(adapter, root / "lora.safetensors")
    api.merge(base, [adapter], root / "tuned", receipt=False)
    return base, root / "lora.safetensors", root / "tuned"


def test_an_adapter_does_what_its_merged_checkpoint_does(pair: tuple[Path, Path, Path]) -> None:
    base, lora, tuned = pair
    found = diff(lora, tuned, base, intruders=4)
    assert {t.path for t in found.targets} == set(api.load(lora).targets)
    assert all(t.cosine == pytest.approx(1, abs=1e-5) for t in found.targets)
    assert all(t.difference < 1e-5 * t.norm_a for t in found.targets)
    W = checkpoints.tensors_of(base)[f"{found.targets[0].path}.weight"]
    assert found.targets[0].relative_a == pytest.approx(found.targets[0].norm_a / float(W.norm()), rel=1e-5)
    assert all(t.intruders_a == t.intruders_b is not None for t in found.targets)


def test_checkpoints_differ_where_they_were_tuned(pair: tuple[Path, Path, Path]) -> None:
    base, lora, tuned = pair
    found = diff(base, tuned)
    assert {t.path: t.state for t in found.targets} == dict.fromkeys(api.load(lora).targets, "only b")
    assert found.interference is not None
    assert "effective rank" in found.interference.words[0]
    assert diff(base, base).equal
    assert diff(tuned, tuned, base).equal


def test_norms_of_checkpoints_are_named(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    base, _, _ = pair
    tensors = checkpoints.tensors_of(base)
    tensors["model.norm.weight"] = tensors["model.norm.weight"] + 0.5
    other = bare(tmp_path / "other", tensors, json.loads((base / "config.json").read_text()))
    found = diff(base, other)
    assert [(o.path, o.state) for o in found.others] == [("model.norm.weight", "only b")]
    assert not found.equal


def test_a_transform_is_compared_against_its_base(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    base, lora, _ = pair
    dora = saved(tmp_path, "dora", checkpoints.randomised(base, "dora"))
    with pytest.raises(errors.NoDelta, match="base"):
        diff(dora, lora)
    found = diff(dora, dora, base)
    assert found.same_change
    assert all(t.norm_a > 0 for t in found.targets)


# ---------------------------------------------------------------- what can't be compared


def test_other_shapes_are_other_models(tmp_path: Path) -> None:
    a = saved(tmp_path, "a", lora_at(PLACE))
    b = saved(tmp_path, "b", lora_at(Target(PLACE.path, "linear", (12, 11))))
    with pytest.raises(errors.ShapeError, match=r"\(12, 10\).*\(12, 11\)"):
        diff(a, b)


def test_other_structures_are_other_bases(tmp_path: Path) -> None:
    from adaptr.adapter import Base

    one = lora_at(PLACE)
    a = saved(tmp_path, "a", one.replace(base=Base(structure="sha256:1")))
    b = saved(tmp_path, "b", one.replace(base=Base(structure="sha256:2")))
    with pytest.raises(errors.WrongBase, match="header=True"):
        diff(a, b)


def test_not_a_number_is_refused(tmp_path: Path) -> None:
    one = lora_at(PLACE)
    bad = one.replace(tensors={**one.tensors, f"{PLACE.path}:A": torch.full((2, 10), math.nan)})
    with pytest.raises(errors.NonFinite, match="q_proj"):
        diff(saved(tmp_path, "a", one), saved(tmp_path, "b", bad))


def test_what_needs_a_base_says_so(pair: tuple[Path, Path, Path]) -> None:
    base, lora, tuned = pair
    with pytest.raises(errors.UsageError, match="base=BASE"):
        diff(lora, tuned)
    with pytest.raises(errors.UsageError, match="base=BASE"):
        diff(lora, lora, intruders=2)
    with pytest.raises(errors.UsageError, match="header"):
        diff(base, tuned, header=True)


def test_prompts_have_no_weights_to_compare(tmp_path: Path, pair: tuple[Path, Path, Path]) -> None:
    prompt = saved(tmp_path, "prompt", checkpoints.randomised(pair[0], "prompt", targets=None))
    with pytest.raises(errors.NoDelta, match="prompt"):
        diff(prompt, pair[1])


# ---------------------------------------------------------------- without a base


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return tiny.model("llama")


def test_scales_of_features_need_no_base(model: nn.Module) -> None:
    """Sizes are shares of the weight's own: on average over weights, those of l - 1."""
    one, two = (checkpoints.randomised(model, "ia3", seed=seed) for seed in (1, 2))
    found = diff(one, two)
    assert (found.verdict, found.same_change, found.counts) == ("they differ", False, {"changed": 6})
    assert "drawn at random" in found.notes[0]
    a, b = (adapter.tensors["model.layers.0.self_attn.v_proj:l"] - 1 for adapter in (one, two))
    (value,) = [t for t in found.targets if t.path == "model.layers.0.self_attn.v_proj"]
    assert value.relative_a == pytest.approx(float(a.norm()) / len(a) ** 0.5, rel=0.15)
    assert value.cosine == pytest.approx(float(torch.cosine_similarity(a, b, dim=0)), abs=0.1)
    assert diff(one, one.replace(name="again")).same_change


@pytest.mark.parametrize("method", ["dora", "prompt", "houlsby"])
def test_of_others_what_they_hold_is_compared(model: nn.Module, method: str) -> None:
    one, two = (checkpoints.randomised(model, method, seed=seed) for seed in (1, 2))
    found = diff(one, two)
    assert (found.verdict, found.same_change, found.equal) == ("they hold other numbers", None, False)
    assert {other.path for other in found.others} <= one.tensors.keys()
    assert "has no delta" in found.notes[0]
    assert diff(one, one.replace()).equal
    assert diff(one, one.replace(name="again")).verdict == "the same tensors, said in another way"
    other = one.replace(config={**one.config, "note": 1})
    assert diff(one, other).same_change is None


def test_what_is_turned_or_scaled_is_not_held_against_what_is_added(model: nn.Module) -> None:
    with pytest.raises(errors.NoDelta, match="give the base"):
        diff(checkpoints.randomised(model, "ia3"), checkpoints.randomised(model))


def test_a_missing_tensor_is_named(pair: tuple[Path, Path, Path], tmp_path: Path) -> None:
    base, _, _ = pair
    tensors = checkpoints.tensors_of(base)
    tensors.pop("model.norm.weight")
    with pytest.raises(errors.CheckpointError, match=r"model\.norm\.weight"):
        diff(base, bare(tmp_path / "less", tensors))
