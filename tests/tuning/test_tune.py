"""Weights and more, found by measuring."""

from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import adaptr
from adaptr.errors import BadRecord, DataError, InputError, MissingExtra, OutputExists, UsageError, WrongBase
from adaptr.evaluating import setting
from adaptr.evaluating.setting import Setting
from adaptr.format import digest
from adaptr.runtime import stack
from adaptr.testing import shaken
from evaluating.conftest import lines


class Killed(BaseException):
    pass


def killing(after: int) -> Any:
    def progress(done: int, total: int, what: str) -> None:
        if done == after:
            raise Killed

    return progress


def test_the_result_is_a_mixture_that_is_better_than_either(llama: Path, loras: list[Path], texts: Path) -> None:
    tuned = adaptr.tune(loras, texts, base=llama, trials=25)
    report = tuned.report
    losses = {row.name: row for row in report.models}
    assert losses["result"].tuned < min(losses["style alone"].tuned, losses["tone alone"].tuned)
    assert losses["result"].held.value < losses["style alone"].held.value
    assert report.single == "style alone"
    assert report.over_single.sure
    assert report.over_single.value < 0
    weights = [one["weight"] for one in report.composed.inputs]
    assert weights == pytest.approx([0.9, 0.4], abs=0.35), "near those that wrote the texts"


def test_the_result_is_what_the_best_trial_measured(llama: Path, loras: list[Path], texts: Path) -> None:
    report = adaptr.tune(loras, texts, base=llama, trials=8).report
    best = report.trials[report.best]
    assert best.loss == min(t.loss for t in report.trials)
    assert next(row for row in report.models if row.name == "result").tuned == pytest.approx(best.loss, abs=1e-5)


def test_it_is_never_worse_than_the_best_input_alone(llama: Path, loras: list[Path], tmp_path: Path) -> None:
    """On texts that one adapter wrote alone, and with a budget of the first trials only."""
    for strategy in ("linear", "ties"):
        data = lines(tmp_path / f"{strategy}.jsonl", [{"text": f"w{i} w{i + 1} w{i + 2}"} for i in range(8)])
        report = adaptr.tune(loras, data, base=llama, trials=5, strategy=strategy).report
        losses = {row.name: row.tuned for row in report.models}
        assert losses["result"] <= min(losses["style alone"], losses["tone alone"]) + 1e-6


def test_an_adapter_alone_is_itself_where_the_strategy_would_trim_it(
    llama: Path, loras: list[Path], texts: Path
) -> None:
    report = adaptr.tune(loras, texts, base=llama, trials=4, strategy="ties", hold_out=0).report
    alone = next(t.loss for t in report.trials if t.alone == 0)
    here = setting.opened(llama, texts)
    with adaptr.attach(here.model, loras[0]):
        assert alone == pytest.approx(here.measure().loss, abs=1e-6)


def test_trials_only_change_strengths_and_write_no_adapter(
    llama: Path, loras: list[Path], texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attached, measured, opened = [], [], []
    attach, measure, open_ = stack.Stack._attach, Setting.measure, builtins.open
    monkeypatch.setattr(stack.Stack, "_attach", lambda self, name: attached.append(name) or attach(self, name))
    monkeypatch.setattr(Setting, "measure", lambda *a, **k: measured.append(len(attached)) or measure(*a, **k))
    monkeypatch.setattr(builtins, "open", lambda *a, **k: opened.append(a) or open_(*a, **k))
    report = adaptr.tune(loras, texts, base=llama, trials=10).report
    assert report.live
    assert len(report.trials) == 10
    assert attached == ["a0", "a1", "made"], "once for all trials, and once for the result"
    assert len(measured) == 10 + 2 + 3 + 2, "the trials; the base twice, the others and the result on what was held out"
    assert [a for a in opened if len(a) > 1 and set(str(a[1])) & set("wax+")] == []


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "ties", "over": ["weights", "density"]},
        {"rank": 2},
        {"over": ["rank=1,2,4"]},
        {"strategy": "svd", "rank": 3},
    ],
    ids=["ties", "cut", "ranks", "svd"],
)
def test_what_is_no_sum_is_composed_for_each_trial(
    llama: Path, loras: list[Path], texts: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a trial is kept in memory")

    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "TemporaryFile", refuse)
        with pytest.raises(Killed):
            adaptr.tune(loras, texts, base=llama, trials=6, progress=killing(6), **options)
    report = adaptr.tune(loras, texts, base=llama, trials=6, **options).report
    assert not report.live
    best = report.trials[report.best]
    assert next(row for row in report.models if row.name == "result").tuned == pytest.approx(best.loss, abs=1e-5)


def test_changes_that_depend_on_the_base_are_composed(llama: Path, loras: list[Path], texts: Path) -> None:
    """A stack of two DoRAs is no sum of them: the second would read what the first changed."""
    from transformers import LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(llama)
    doras = [shaken(adaptr.create(model, "dora", r=2), seed, 0.3) for seed in range(2)]
    report = adaptr.tune(doras, texts, base=llama, trials=4).report
    assert not report.live
    assert adaptr.tune([doras[0], loras[0]], texts, base=llama, trials=4).report.live is False


def test_a_search_without_its_library_is_refused(
    llama: Path, loras: list[Path], texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match=r"adaptr\[tune\]"):
        adaptr.tune(loras, texts, base=llama)


def test_live_and_composed_trials_measure_the_same(llama: Path, loras: list[Path], texts: Path) -> None:
    live = adaptr.tune(loras, texts, base=llama, trials=6).report
    composed = adaptr.tune(loras, texts, base=llama, trials=6, dtype="fp32").report
    assert (live.live, composed.live) == (True, False)
    for one, two in zip(live.trials[:4], composed.trials[:4], strict=True):
        assert one.loss == pytest.approx(two.loss, abs=1e-5)


def test_a_search_that_was_killed_goes_on_to_the_same_bytes(
    llama: Path, loras: list[Path], texts: Path, tmp_path: Path
) -> None:
    whole, again = tmp_path / "whole.safetensors", tmp_path / "again.safetensors"
    adaptr.tune(loras, texts, whole, base=llama, trials=12)
    for after in (3, 9):
        with pytest.raises(Killed):
            adaptr.tune(loras, texts, again, base=llama, trials=12, progress=killing(after))
        assert not again.exists()
    journal = tmp_path / "again.safetensors.tune.jsonl"
    with journal.open("a") as file:
        file.write('{"values": {"weig')  # as a disk may leave it
    report = adaptr.tune(loras, texts, again, base=llama, trials=12).report
    assert report.resumed == 9
    assert digest.of_file(whole) == digest.of_file(again)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.safetensors", "whole.safetensors"]


def test_trials_of_another_search_are_not_gone_on_with(
    llama: Path, loras: list[Path], texts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.safetensors"
    with pytest.raises(Killed):
        adaptr.tune(loras, texts, out, base=llama, trials=12, progress=killing(5))
    with pytest.raises(OutputExists, match="another search"):
        adaptr.tune(loras, texts, out, base=llama, trials=12, seed=1)
    assert adaptr.tune(loras, texts, out, base=llama, trials=5, seed=1, force=True).report.resumed == 0


def test_the_lineage_holds_the_whole_search_and_no_name(
    llama: Path, loras: list[Path], texts: Path, tmp_path: Path
) -> None:
    tuned = adaptr.tune(loras, texts, tmp_path / "out.safetensors", base=llama, trials=7)
    found = adaptr.load(tmp_path / "out.safetensors").lineage
    search = found["search"]
    assert search["data"] == digest.of_file(texts)
    assert [t["loss"] for t in search["trials"]] == [t.loss for t in tuned.report.trials]
    assert search["trials"][search["best"] - 1]["values"] == dict(tuned.report.trials[tuned.report.best].values)
    assert len(found["parents"]) == 2
    for word in ("style", "tone", "texts", str(tmp_path)):
        assert word not in json.dumps(search)


def test_what_is_held_out_is_not_chosen_by(llama: Path, loras: list[Path], texts: Path) -> None:
    half = adaptr.tune(loras, texts, base=llama, trials=5, hold_out=0.25).report
    assert (half.records, half.held) == (36, 12)
    none = adaptr.tune(loras, texts, base=llama, trials=5, hold_out=0).report
    assert (none.records, none.held) == (48, 0)
    assert any("held out" in note for note in none.notes)


def test_no_gain_is_said(llama: Path, loras: list[Path], tmp_path: Path) -> None:
    """On noise nothing is better than the base."""
    data = lines(
        tmp_path / "noise.jsonl", [{"text": " ".join(f"w{(7 * i * j) % 60}" for j in range(9))} for i in range(12)]
    )
    report = adaptr.tune(loras, data, base=llama, trials=5).report
    assert any("no gain" in note or "no mixture" in note for note in report.notes)


def test_a_search_that_fitted_its_records_is_said(llama: Path, loras: list[Path], texts: Path, tmp_path: Path) -> None:
    """Chosen by records of another kind: what is best on the others was not found."""
    from adaptr.data import read, split

    chosen, _ = split(read(texts), 0.9)
    numbers = {record.place.line for record in chosen.records}
    rows = [json.loads(line) for line in texts.read_text().splitlines()]
    odd = [{"text": "w7 " * 9} if n in numbers else row for n, row in enumerate(rows, 1)]
    report = adaptr.tune(loras, lines(tmp_path / "odd.jsonl", odd), base=llama, trials=12, hold_out=0.9).report
    held = {row.name: row.held.value for row in report.models}
    assert held["result"] > min(held.values())
    assert any("too few to choose by" in note for note in report.notes)


def test_a_recipe_file_says_everything(llama: Path, loras: list[Path], texts: Path, tmp_path: Path) -> None:
    text = f"""
base: {llama}
seed: 3
inputs:
  - adapter: {loras[0]}
  - adapter: {loras[1]}
tune:
  data: {texts}
  trials: 6
"""
    (tmp_path / "recipe.yaml").write_text(text)
    made = adaptr.tune(tmp_path / "recipe.yaml", out=tmp_path / "a.safetensors")
    same = adaptr.tune(loras, texts, tmp_path / "b.safetensors", base=llama, trials=6, seed=3)
    assert made.report.composed.digest == same.report.composed.digest
    with pytest.raises(UsageError, match=r"adaptr\.tune"):
        adaptr.compose(tmp_path / "recipe.yaml")


@pytest.mark.parametrize(
    ("tune", "said"),
    [
        ("{trials: 3}", "line 5: .*no `data`"),
        ("{data: x, trails: 3}", "line 5: .*trails"),
        ("{data: x, trials: 0}", "line 5: .*at least 1"),
        ("{data: x, trials: many}", "line 5: .*trials"),
    ],
)
def test_a_recipe_file_is_refused_with_its_line(
    llama: Path, loras: list[Path], tmp_path: Path, tune: str, said: str
) -> None:
    (tmp_path / "r.yaml").write_text(
        f"base: {llama}\ninputs:\n  - adapter: {loras[0]}\n  - adapter: {loras[1]}\ntune: {tune}\n"
    )
    with pytest.raises(InputError, match=said):
        adaptr.tune(tmp_path / "r.yaml")


def test_what_makes_no_sense_is_refused(llama: Path, loras: list[Path], texts: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="trials"):
        adaptr.tune(loras, texts, base=llama, trials=0)
    with pytest.raises(UsageError, match="4 or more"):
        adaptr.tune(loras, texts, base=llama, trials=3)
    with pytest.raises(UsageError, match="give it"):
        adaptr.tune(loras, texts)
    with pytest.raises(UsageError, match="no data"):
        adaptr.tune(loras, base=llama)
    with pytest.raises(UsageError, match="held out"):
        adaptr.tune(loras, texts, base=llama, hold_out=1.0)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError):
        adaptr.tune(loras, tmp_path / "empty.jsonl", base=llama)
    with pytest.raises(BadRecord):
        adaptr.tune(loras, lines(tmp_path / "bad.jsonl", [{"text": ""}, {"text": "w1"}]), base=llama, trials=5)
    other = adaptr.load(loras[1]).replace(base=adaptr.Base(id="someone/else"))
    with pytest.raises(WrongBase):
        adaptr.tune([loras[0], other], texts, base=llama)
