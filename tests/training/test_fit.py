"""From a file of records to an adapter, by one call."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import adaptr
import tiny
from adaptr.errors import BadConfig, BadRecord, NotPossible, OutputExists, Unsupported, UsageError
from adaptr.training.watching import About, Point, Watcher
from training_data import tokenizer

SMALL: dict[str, Any] = {"steps": 6, "rate": 0.02, "config": {"r": 4}, "samples": 1}


class Noting(Watcher):
    def __init__(self) -> None:
        self.about: list[About] = []
        self.points: list[Point] = []
        self.notes: list[str] = []

    def begins(self, about: About) -> None:
        self.about.append(about)

    def stepped(self, point: Point) -> None:
        self.points.append(point)

    def noted(self, note: str) -> None:
        self.notes.append(note)


@pytest.fixture(scope="module")
def made(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Noting]:
    watcher, out = Noting(), tmp_path_factory.mktemp("made") / "answers.safetensors"
    return adaptr.fit(base, data, out, valid="25%", watcher=watcher, **SMALL), watcher


def test_the_adapter_learns_and_is_written(made: tuple[Any, Noting]) -> None:
    report, _ = made
    assert report.after["loss"] < report.before["loss"]
    adapter = adaptr.load(report.out)
    assert adapter.name == "answers"
    assert adapter.method == "lora"
    assert all(torch.equal(adapter.tensors[key], value) for key, value in report.adapter.tensors.items())
    assert report.digest == "sha256:" + hashlib.sha256(Path(report.out).read_bytes()).hexdigest()


def test_what_is_measured_is_what_the_written_adapter_does(made: tuple[Any, Noting], base: Path, data: Path) -> None:
    report, _ = made
    model = AutoModelForCausalLM.from_pretrained(base)
    bare = adaptr.fit(base, data, adapter=report.out, valid="25%", steps=1, rate=1e-9, samples=0)
    assert bare.after["loss"] == pytest.approx(report.after["loss"], rel=1e-5)
    assert bare.before["loss"] == report.before["loss"]
    with adaptr.attach(model, report.out):
        pass


def test_the_manifest_says_what_it_was_made_of_and_not_where(made: tuple[Any, Noting], base: Path, data: Path) -> None:
    report, _ = made
    training = adaptr.load(report.out).training
    assert training["data"]["data"] == "sha256:" + hashlib.sha256(data.read_bytes()).hexdigest()
    assert training["recipe"]["rate"] == 0.02
    assert training["recipe_digest"] == report.recipe_digest
    assert training["versions"]["torch"] == torch.__version__
    assert training["measured"]["after"] == report.after
    written = Path(report.out).read_bytes()
    for place in (base, data, Path(report.out)):
        assert str(place.parent).encode() not in written


def test_the_digest_of_a_recipe_is_of_all_that_matters_and_of_no_order(base: Path, data: Path) -> None:
    one = adaptr.fit(base, data, valid="25%", **SMALL)
    again = adaptr.fit(base, data, **dict(reversed(SMALL.items())), valid=" 25.0 %")
    other = adaptr.fit(base, data, valid="50%", **SMALL)
    assert one.recipe_digest == again.recipe_digest != other.recipe_digest


def test_a_watcher_is_told_what_will_be_trained_and_of_each_step(made: tuple[Any, Noting]) -> None:
    report, watcher = made
    (about,) = watcher.about
    assert about.parameters == report.parameters
    assert about.steps == 6
    assert [point.step for point in watcher.points] == [1, 2, 3, 4, 5, 6]
    assert watcher.points[-1].loss == report.curves.loss[-1]
    assert report.curves.rate[0] == 0.02


def test_the_report_is_plain(made: tuple[Any, Noting]) -> None:
    report, _ = made
    assert json.loads(json.dumps(report.as_dict()))["recipe_digest"] == report.recipe_digest
    beside = json.loads(Path(report.out + ".run", "report.json").read_text())
    assert beside["seconds"] == report.seconds


def test_the_same_call_gives_the_same_bytes(made: tuple[Any, Noting], base: Path, data: Path, tmp_path: Path) -> None:
    report, _ = made
    again = adaptr.fit(base, data, tmp_path / "answers.safetensors", valid="25%", **SMALL)
    assert again.digest == report.digest


def test_a_recipe_is_the_same_training(made: tuple[Any, Noting], base: Path, data: Path, tmp_path: Path) -> None:
    report, _ = made
    (tmp_path / "model").symlink_to(base)
    (tmp_path / "rows.jsonl").symlink_to(data)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("base: model\ndata: rows.jsonl\nvalid: 25%\nsteps: 6\nrate: 0.02\nconfig: {r: 4}\nsamples: 1\n")
    assert adaptr.fit(recipe, out=tmp_path / "answers.safetensors").digest == report.digest


def test_a_head_is_trained_whole_beside(base: Path, data: Path) -> None:
    report = adaptr.fit(base, data, also="head", **SMALL)
    assert "lm_head.weight:=" in report.adapter.tensors
    assert report.moved["lm_head.weight"] > 0


def test_an_adapter_on_the_head_learns(base: Path, data: Path) -> None:
    report = adaptr.fit(base, data, targets=["lm_head", "attn.q"], **SMALL)
    assert report.adapter.tensors["lm_head:B"].abs().max() > 0


@pytest.mark.parametrize("method", ["dora", "ia3", "prompt", "prefix"])
def test_other_methods(base: Path, data: Path, method: str) -> None:
    report = adaptr.fit(base, data, method=method, steps=3, rate=0.05, samples=0)
    assert max(report.moved.values()) > 0
    assert report.after["loss"] != report.before["loss"]


def test_accumulation_is_a_larger_batch(base: Path, data: Path) -> None:
    one = adaptr.fit(base, data, batch=4, **SMALL).adapter.tensors
    many = adaptr.fit(base, data, batch=1, accumulate=4, **SMALL).adapter.tensors
    assert max(float((one[key] - many[key]).abs().max()) for key in one) < 1e-4


def test_packed_records_see_only_themselves(base: Path, data: Path) -> None:
    report = adaptr.fit(base, data, pack=True, length=32, steps=2, rate=0.02, config={"r": 4}, samples=0)
    assert report.curves.loss[0] == pytest.approx(report.before["loss"], rel=0.02)


def test_what_adds_tokens_to_a_row_is_not_packed(base: Path, data: Path) -> None:
    with pytest.raises(Unsupported, match="with `prompt` on it does not keep records in one row apart"):
        adaptr.fit(base, data, method="prompt", pack=True, steps=1, samples=0)


def test_a_prompt_as_long_as_the_model_is_answered(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tiny.MAKERS["gpt2"]().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    data = tmp_path / "long.jsonl"
    data.write_text(json.dumps({"prompt": "w1 " * 62, "completion": "w2 w3 w4"}))
    report = adaptr.fit(tmp_path, data, **{**SMALL, "steps": 1, "length": 100})
    assert report.samples[0].after
    assert "1 of 1 records are cut at 64 tokens, 2 in all" in report.notes
    with pytest.raises(BadRecord, match="longer than the 64 tokens that the base takes"):
        adaptr.fit(tmp_path, data, strict=True, **{**SMALL, "length": 100})


def test_a_rate_that_never_rises_and_validation_data_that_is_cut_are_said(
    base: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "long.jsonl").write_text(json.dumps({"prompt": "w1 ", "completion": "w2 " * 20}))
    report = adaptr.fit(base, data, valid=str(tmp_path / "long.jsonl"), warmup=50, **{**SMALL, "length": 8})
    assert "1 of 1 validation records are cut, and measured so" in report.notes
    assert "the rate rises for 50 steps and there were 6: it did not get to 0.02" in report.notes
    assert not any("rises" in note for note in adaptr.fit(base, data, warmup=1, **SMALL).notes)


def test_what_is_forgotten_is_measured_on_a_second_text(base: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("\n\n\n".join(f"w{i * 7 % 60} w2" for i in range(50)))
    report = adaptr.fit(base, data, second=str(tmp_path / "other.txt"), length=16, **SMALL)
    assert report.second_after["perplexity"] != report.second_before["perplexity"]
    assert report.recipe["second"].startswith("sha256:")
    measured = adaptr.evaluate(base, report.adapter, data, second=tmp_path / "other.txt", length=16, resamples=0)
    assert [row.second.value for row in measured.rows] == pytest.approx(
        [one["perplexity"] for one in (report.second_before, report.second_after)], rel=1e-5
    )


def test_the_validation_data_is_measured_meanwhile(base: Path, data: Path) -> None:
    report = adaptr.fit(base, data, valid="25%", eval_every=3, **SMALL)
    (_, first), (last, loss) = report.curves.measured
    assert (last, loss) == (6, pytest.approx(report.after["loss"], rel=1e-5))
    assert first != loss


def test_nothing_learned_is_said(base: Path, data: Path) -> None:
    report = adaptr.fit(base, data, steps=1, rate=1e-12, config={"r": 4}, samples=0)
    assert any("nothing was learned" in note for note in report.notes)


# ------------------------------------------------------------------ refused before anything is loaded


@pytest.mark.parametrize(
    ("fields", "error", "said"),
    [
        ({"rate": 0}, BadConfig, "`rate` is 0, wanted more than 0"),
        ({"rate": float("nan")}, BadConfig, "finite"),
        ({"steps": 0}, BadConfig, "at least 1"),
        ({"steps": True}, BadConfig, "a whole number"),
        ({"batch": 1.5}, BadConfig, "a whole number"),
        ({"schedule": "cosin"}, BadConfig, "one of linear"),
        ({"ratte": 1}, BadConfig, "did you mean `rate`"),
        ({"method": "lorra"}, UsageError, "did you mean"),
        ({"method": "xlora"}, NotPossible, "adaptr gate train"),
        ({"config": {"rr": 4}}, BadConfig, "no field `rr`"),
        ({"config": {"r": 0}}, BadConfig, "at least 1"),
        ({"adapter": "a", "config": {"r": 4}}, UsageError, "go on from one"),
        ({"objective": "dpo", "task": "classify"}, BadConfig, "`sft`"),
        ({"objective": "dpo", "pack": True}, UsageError, "pack"),
        ({"pack": True, "task": "classify"}, BadConfig, "only texts"),
        ({"double_quant": True}, BadConfig, "nf4"),
        ({"eval_every": 5}, BadConfig, "valid"),
        ({"report_to": ["paper"]}, BadConfig, "tensorboard"),
    ],
)
def test_a_recipe_that_is_wrong(base: Path, data: Path, fields: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        adaptr.fit(base, data, **fields)


def test_what_is_there_is_not_replaced(base: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    out.write_bytes(b"mine")
    with pytest.raises(OutputExists):
        adaptr.fit(base, data, out, **SMALL)
    assert out.read_bytes() == b"mine"


def test_data_is_missing(base: Path) -> None:
    with pytest.raises(BadConfig, match="`data` is missing"):
        adaptr.fit(base)
