"""Each kind of trainer by a task of its own, on tiny random models: classes, sequences from sequences, preferences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

import adaptr
import tiny
from adaptr.errors import BadConfig, DataError, Unsupported
from training_data import tokenizer

SMALL: dict[str, Any] = {"steps": 4, "rate": 0.02, "config": {"r": 4}, "samples": 1}
#: No dropout, whose draws are of the batch.
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def rows(folder: Path, *found: dict[str, Any]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, found)))
    return file


def model(folder: Path, made: Any) -> Path:
    made.save_pretrained(folder / "model")
    tokenizer().save_pretrained(folder / "model")
    return folder / "model"


def test_classes_and_a_head_that_is_fresh(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = model(tmp_path, BertForMaskedLM(BertConfig(**tiny.COMMON, **STILL)))
    data = rows(tmp_path, *({"text": f"w{i} w{i + 1}", "label": ("low", "high")[i > 12]} for i in range(24)))
    report = adaptr.fit(base, data, tmp_path / "a.safetensors", task="classify", accumulate=2, **SMALL)
    assert report.after["loss"] < report.before["loss"]
    kept = adaptr.load(report.out)
    assert "classifier.weight:=" in kept.tensors
    assert kept.training["labels"] == ["high", "low"]


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_fresh_head_of_a_packed_base_is_not_packed(tmp_path: Path, method: str) -> None:
    """transformers packs one that has a bias."""
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    sizes = {**tiny.COMMON, "hidden_size": 64, "intermediate_size": 128}
    base = model(tmp_path, BertForMaskedLM(BertConfig(**sizes, **STILL)))
    data = rows(tmp_path, *({"text": f"w{i} w{i + 1}", "label": ("low", "high")[i > 12]} for i in range(24)))
    report = adaptr.fit(base, data, task="classify", method=method, base_quant="nf4", **SMALL)
    assert report.adapter.tensors["classifier.weight:="].shape == (2, 64)
    assert min(report.moved.values()) > 0
    assert report.adapter.base.content


@pytest.mark.parametrize("task", ["classify", "regress"])
def test_accumulation_is_a_larger_batch_whatever_the_loss_is(tmp_path: Path, task: str) -> None:
    torch.manual_seed(0)
    base = model(tmp_path, BertForSequenceClassification(BertConfig(**tiny.COMMON, **STILL)))
    labels: Any = (lambda i: ("a", "b")[i % 2]) if task == "classify" else (lambda i: i / 24)
    data = rows(tmp_path, *({"text": f"w{i} w{i + 1}", "label": labels(i)} for i in range(24)))
    fields = {**SMALL, "steps": 1, "task": task, "samples": 0}
    one = adaptr.fit(base, data, batch=8, **fields)
    many = adaptr.fit(base, data, batch=2, accumulate=4, **fields)
    assert many.curves.loss == pytest.approx(one.curves.loss, rel=1e-5)
    assert many.curves.norm == pytest.approx(one.curves.norm, rel=1e-4)


@pytest.mark.parametrize("labels", [("neg", "pos"), (0, 1), (0.0, 1.0), (False, True)])
def test_what_was_trained_on_a_head_of_other_classes_is_measured_as_it_was_trained(
    tmp_path: Path, labels: tuple[Any, Any]
) -> None:
    torch.manual_seed(0)
    made = BertForSequenceClassification(BertConfig(**tiny.COMMON, **STILL, id2label={0: "NO", 1: "YES"}))
    base = model(tmp_path, made)
    data = rows(tmp_path, *({"text": f"w{i} w{i + 1}", "label": labels[i % 2]} for i in range(8)))
    report = adaptr.fit(base, data, tmp_path / "a.safetensors", **SMALL)
    assert not any("never occur" in note for note in report.notes)
    found = adaptr.evaluate(base, report.out, data)
    assert [row.name for row in found.rows] == ["a"], "the base's answers are of other classes"
    assert found.rows[0].values["loss"].value == pytest.approx(report.after["loss"], rel=1e-6)


def test_classes_are_gone_on_with_as_the_adapter_knows_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = model(tmp_path, BertForMaskedLM(BertConfig(**tiny.COMMON, **STILL)))
    fields = {"task": "classify", "rate": 0.05, "samples": 0}

    def trained(labels: str, **more: Any) -> Any:
        data = rows(tmp_path, *({"text": f"w{i}", "label": labels[i % len(labels)]} for i in range(9)))
        return adaptr.fit(base, data, **fields, **more)

    first = trained("bac", steps=8, out=tmp_path / "a.safetensors")
    fewer = trained("ca", steps=1, adapter=first.out)
    assert fewer.adapter.training["labels"] == ["a", "b", "c"]
    with pytest.raises(DataError, match="the class `0`, which the adapter's head does not tell"):
        trained("ba0", steps=1, adapter=first.out)


def test_questions_accumulated(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = model(tmp_path, BertForQuestionAnswering(BertConfig(**tiny.COMMON, **STILL)))
    asked = {"context": "w1 w2 w3 w4 w5 w6 w7 w8", "answers": {"text": ["w3 w4"], "answer_start": [6]}}
    data = rows(tmp_path, *({"question": f"w{i}", **asked} for i in range(5)))
    fields = {**SMALL, "steps": 1, "samples": 0}
    one, many = (adaptr.fit(base, data, **fields, **how) for how in ({"batch": 5}, {"batch": 4, "accumulate": 2}))
    assert many.curves.loss == pytest.approx(one.curves.loss, rel=1e-5)
    assert many.curves.norm == pytest.approx(one.curves.norm, rel=1e-4)


def test_smoothed_labels_of_a_sequence(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = model(tmp_path, T5ForConditionalGeneration(T5Config(**tiny.T5, decoder_start_token_id=0, dropout_rate=0.0)))
    data = rows(tmp_path, *({"source": f"w{i}", "target": f"w{i} " * (1 + i % 3)} for i in range(8)))
    fields = {**SMALL, "steps": 1, "samples": 0, "smoothing": 0.1}
    one, many = (adaptr.fit(base, data, **fields, **how) for how in ({"batch": 8}, {"batch": 2, "accumulate": 4}))
    assert many.curves.norm == pytest.approx(one.curves.norm, rel=1e-4)
    assert one.curves.loss != adaptr.fit(base, data, **{**fields, "smoothing": 0.0}, batch=8).curves.loss


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"task": "regress", "smoothing": 0.1}, "`smoothing` is 0.1, wanted 0 for the task `regress`"),
        ({"beta": 0.5}, "`beta` is 0.5, wanted `objective: dpo`"),
        ({"pack": True}, "`pack` is true, wanted false for the task `classify`"),
    ],
)
def test_what_a_task_would_not_heed_is_refused(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    base = model(tmp_path, BertForSequenceClassification(BertConfig(**tiny.COMMON)))
    data = rows(tmp_path, *({"text": f"w{i}", "label": i % 2} for i in range(4)))
    with pytest.raises(BadConfig, match=said):
        adaptr.fit(base, data, **SMALL, **fields)


def test_sequences_from_sequences_accumulated(tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = model(tmp_path, T5ForConditionalGeneration(T5Config(**tiny.T5, decoder_start_token_id=0, dropout_rate=0.0)))
    data = rows(tmp_path, *({"source": f"w{i}", "target": f"w{i} " * (1 + i % 3)} for i in range(8)))
    fields = {**SMALL, "steps": 1, "samples": 0}
    one = adaptr.fit(base, data, batch=8, **fields)
    many = adaptr.fit(base, data, batch=2, accumulate=4, **fields)
    assert (one.task, one.architecture) == ("seq2seq", "T5ForConditionalGeneration")
    assert many.curves.norm == pytest.approx(one.curves.norm, rel=1e-4)


PAIRS = [{"prompt": f"w{i} ", "chosen": f"w{i + 1} w{i + 2}", "rejected": f"w{i + 3}"} for i in range(16)]


def test_preferences(base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = rows(tmp_path, *PAIRS)
    report = adaptr.fit(base, data, objective="dpo", method="dora", **{**SMALL, "steps": 8})
    assert report.curves.loss[0] == pytest.approx(0.6931, abs=1e-3), "nothing is preferred at the start"
    assert report.curves.loss[-1] < report.curves.loss[0]
    assert report.after["accuracy"] >= report.before["accuracy"]
    assert capfd.readouterr() == ("", "")


def test_preferences_past_an_adapter_on_the_head_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="leave the head out"):
        adaptr.fit(base, rows(tmp_path, *PAIRS), objective="dpo", targets=["lm_head"], **SMALL)
