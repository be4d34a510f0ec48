"""A base, each adapter and all of them, on the same records."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import BertForSequenceClassification, LlamaForCausalLM

import adaptr
import tiny
from adaptr.errors import CheckpointError, DataError, UsageError, WrongBase
from adaptr.evaluating import setting
from adaptr.testing import shaken
from evaluating.conftest import lines, saved, text


def test_rows_are_the_base_each_alone_and_all_together(llama: Path, pairs: Path, loras: list[Path]) -> None:
    report = adaptr.evaluate(llama, [loras[0], (loras[1], 0.5)], pairs, resamples=50)
    assert [row.name for row in report.rows] == ["base", "style", "tone", "together"]
    here = setting.opened(llama, pairs)
    with adaptr.stack(here.model, {"style": adaptr.load(loras[0]), "tone": (adaptr.load(loras[1]), 0.5)}):
        together = here.measure()
    rows = {row.name: row for row in report.rows}
    assert rows["base"].values["loss"].value == here.measure().loss
    assert rows["together"].values["loss"].value == pytest.approx(together.loss, abs=1e-6)
    for row in report.rows[1:]:
        gain = row.gain["loss"]
        assert gain.value == pytest.approx(row.values["loss"].value - rows["base"].values["loss"].value)
        assert gain.low <= gain.value <= gain.high
    assert report.metrics == {"loss": False, "perplexity": False}
    assert [a["weight"] for a in report.adapters] == [1.0, 0.5]


def test_together_is_what_compose_makes_of_them(llama: Path, pairs: Path, loras: list[Path], tmp_path: Path) -> None:
    made = adaptr.compose([loras[0], (loras[1], 0.5)], out=tmp_path / "both.safetensors")
    assert made.report.targets
    report = adaptr.evaluate(llama, [loras[0], (loras[1], 0.5)], pairs, resamples=0)
    alone = adaptr.evaluate(llama, tmp_path / "both.safetensors", pairs, resamples=0)
    assert report.rows[-1].values["loss"].value == pytest.approx(alone.rows[-1].values["loss"].value, abs=1e-6)


def test_the_same_call_gives_the_same_figures(llama: Path, pairs: Path, loras: list[Path]) -> None:
    one, two = (adaptr.evaluate(llama, loras, pairs, resamples=100, seed=3).rows for _ in range(2))
    assert one == two


def test_an_adapter_of_weight_0_gains_nothing_and_is_not_sure_of_it(
    llama: Path, pairs: Path, loras: list[Path]
) -> None:
    row = adaptr.evaluate(llama, [(loras[0], 0.0)], pairs, resamples=50).rows[1]
    assert (row.gain["loss"].value, row.gain["loss"].low, row.gain["loss"].high) == (0, 0, 0)
    assert not row.gain["loss"].sure


def test_forgetting_is_the_perplexity_of_a_second_text(
    llama: Path, pairs: Path, loras: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "second.txt").write_text(" ".join(text(i) for i in range(20)))
    base, style = adaptr.evaluate(llama, loras[0], pairs, second=tmp_path / "second.txt", resamples=50).rows
    assert base.second is not None
    assert base.forgotten is None
    assert style.forgotten.value == pytest.approx(style.second.value - base.second.value)


def test_a_head_that_the_adapter_brings_is_measured_and_the_base_without_one_is_not(
    llama: Path, reviews: Path, tmp_path: Path
) -> None:
    here = setting.opened(llama, reviews, options=setting.Options(task="classify"))
    assert here.fresh == ("score",)
    made = shaken(adaptr.create(here.model, "lora", also="score", r=2), 0, 0.3)
    headed = made.replace(training={"labels": ["good", "bad"]})
    adaptr.save(headed, tmp_path / "headed.safetensors")
    report = adaptr.evaluate(llama, tmp_path / "headed.safetensors", reviews, task="classify", resamples=20)
    assert [row.name for row in report.rows] == ["headed"]
    assert any("can't be measured without an adapter" in note for note in report.notes)
    reordered = headed.replace(training={"labels": ["bad", "good"]})
    other = adaptr.evaluate(llama, reordered, reviews, task="classify", resamples=20)
    own, its = (one.rows[0].values["accuracy"].value for one in (report, other))
    assert own + its == pytest.approx(1), "the same outputs under the other name"


def test_heads_that_differ_in_their_classes_are_refused(llama: Path, reviews: Path) -> None:
    here = setting.opened(llama, reviews, options=setting.Options(task="classify"))
    made = shaken(adaptr.create(here.model, "lora", also="score", r=2), 0, 0.3)
    one, two = (made.replace(training={"labels": names}, name=names[0]) for names in (["good", "bad"], ["bad", "good"]))
    with pytest.raises(DataError, match="different classes"):
        adaptr.evaluate(llama, [one, two], reviews, task="classify")
    with pytest.raises(DataError, match="does not tell"):
        adaptr.evaluate(llama, made.replace(training={"labels": ["good", "fair"]}), reviews, task="classify")


def test_an_adapter_without_the_head_that_is_missing_is_refused(llama: Path, reviews: Path, loras: list[Path]) -> None:
    with pytest.raises(CheckpointError, match="noise"):
        adaptr.evaluate(llama, loras[0], reviews, task="classify")
    with pytest.raises(UsageError, match="adapter that brings one"):
        adaptr.evaluate(llama, (), reviews, task="classify")


def test_two_heads_can_be_compared_and_not_put_together(bert: Path, reviews: Path) -> None:
    model = BertForSequenceClassification.from_pretrained(bert)
    made = [shaken(adaptr.create(model, "lora", also="head", r=2), seed, 0.3) for seed in range(2)]
    named = {n: a.replace(training={"labels": ["bad", "good"]}) for n, a in zip("ab", made, strict=True)}
    report = adaptr.evaluate(bert, named, reviews, resamples=10)
    assert [row.name for row in report.rows] == ["base", "a", "b"]
    assert any("together can't be measured" in note for note in report.notes)


def test_an_adapter_of_another_base_is_refused(llama: Path, pairs: Path) -> None:
    other = adaptr.create(tiny.model("mistral"), "lora").replace(base=adaptr.Base(id="someone/else"))
    with pytest.raises(WrongBase):
        adaptr.evaluate(llama, other, pairs)


def test_another_spelling_of_the_classes_is_refused(tmp_path: Path, reviews: Path) -> None:
    plain = saved("bert", tmp_path / "plain")
    with pytest.raises(DataError, match="other classes"):
        adaptr.evaluate(plain, (), reviews)
    digits = lines(tmp_path / "digits.jsonl", [{"text": text(i), "label": i % 2} for i in range(6)])
    assert adaptr.evaluate(plain, (), digits, resamples=0).rows[0].values["accuracy"].value is not None


def test_no_data_is_refused(llama: Path) -> None:
    with pytest.raises(UsageError, match="no data"):
        adaptr.evaluate(llama)


def test_the_model_is_loaded_once(llama: Path, pairs: Path, loras: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    calls, load = [], LlamaForCausalLM.from_pretrained
    monkeypatch.setattr(LlamaForCausalLM, "from_pretrained", lambda *a, **k: calls.append(1) or load(*a, **k))
    adaptr.evaluate(llama, loras, pairs, resamples=0)
    assert len(calls) == 1
