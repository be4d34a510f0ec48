"""Which task it is, where nobody says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adaptr import tasks
from adaptr.data import Data, Place, Record
from adaptr.errors import DataError, UsageError


def found(folder: Path, architecture: str, *rows: dict[str, Any], task: str = "auto", objective: str = "sft") -> str:
    config = {"architectures": [architecture], "is_encoder_decoder": architecture[:2] in ("T5", "Wh")}
    (folder / "config.json").write_text(json.dumps(config))
    data = Data([Record(row, Place("a", i)) for i, row in enumerate(rows, 1)], "sha256:0", "a")
    return tasks.find(task, folder, data, objective).name


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("LlamaForCausalLM", {"text": "a"}, "lm"),
    ("LlamaForCausalLM", {"messages": []}, "lm"),
    ("LlamaForCausalLM", {"source": "a", "target": "b"}, "lm"),
    ("LlamaForCausalLM", {"text": "a", "label": "b"}, "classify"),
    ("LlamaForCausalLM", {"words": ["a"], "tags": ["b"]}, "tag"),
    ("LlavaForConditionalGeneration", {"text": "a"}, "lm"),
    ("GPT2LMHeadModel", {"prompt": "a", "completion": "b"}, "lm"),
    ("BertModel", {"text": "a", "label": "b"}, "classify"),
    ("BertModel", {"text": "a", "label": 0.5}, "regress"),
    ("BertModel", {"text": "a", "label": "3.8"}, "regress"),
    ("BertModel", {"text": "a", "label": 3.0}, "classify"),
    ("BertModel", {"words": ["a"], "tags": ["b"]}, "tag"),
    ("BertModel", {"question": "a", "context": "b", "answers": {}}, "qa"),
    ("BertForSequenceClassification", {"text": "a", "label": 1}, "classify"),
    ("T5ForConditionalGeneration", {"source": "a", "target": "b"}, "seq2seq"),
    ("WhisperForConditionalGeneration", {"audio": "a", "text": "b"}, "speech"),
    ("ViTForImageClassification", {"image": "a", "label": "b"}, "image"),
    ("ViTModel", {"image": "a", "label": "b"}, "image"),
]


@pytest.mark.parametrize(("architecture", "row", "task"), CASES)
def test_by_base_and_columns(tmp_path: Path, architecture: str, row: dict[str, Any], task: str) -> None:
    assert found(tmp_path, architecture, row) == task


def test_by_name_and_by_objective(tmp_path: Path) -> None:
    assert found(tmp_path, "LlamaForCausalLM", {}, task="classify") == "classify"
    assert found(tmp_path, "LlamaForCausalLM", {}, objective="dpo") == "preference"


def test_columns_of_no_task(tmp_path: Path) -> None:
    match = r"the columns `a`, `b` are of no task that this base does; `--map` names columns.*lm: messages or prompt"
    with pytest.raises(DataError, match=match):
        found(tmp_path, "LlamaForCausalLM", {"a": 1, "b": 2})


def test_a_task_that_nobody_knows(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no task `clasify`; did you mean `classify`"):
        found(tmp_path, "BertModel", {}, task="clasify")


@pytest.mark.parametrize("name", tasks.names())
def test_each_task_says_what_it_is(name: str) -> None:
    task = tasks.by_name(name)
    assert task.name == name
    assert task.summary.endswith(".")
    assert all(task.columns)


@pytest.mark.parametrize("name", tasks.names())
def test_its_metrics_are_there(name: str) -> None:
    from adaptr.evaluating import metrics

    for metric in tasks.by_name(name).metrics:
        assert metric == "perplexity" or metrics.get(metric)
