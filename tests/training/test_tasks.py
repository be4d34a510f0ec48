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
    BertForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
)

import adaptr
import tiny
from adaptr.errors import Unsupported
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
