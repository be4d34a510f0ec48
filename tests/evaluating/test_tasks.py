"""Every task is measured: its loss is the model's own of each record alone, and nothing depends on the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as t

import tiny
from adaptr import tasks
from adaptr.errors import UsageError
from adaptr.evaluating import metrics, setting
from adaptr.evaluating.setting import Options
from evaluating.conftest import lines, saved, text

ROWS: dict[str, list[dict[str, Any]]] = {
    "lm": [{"prompt": text(i) + " ", "completion": text(50 + i)} for i in range(9)],
    "classify": [{"text": text(i), "label": ["good", "bad"][i % 2]} for i in range(9)],
    "regress": [{"text": text(i), "label": i / 3} for i in range(9)],
    "tag": [{"words": text(i).split(), "tags": [["O", "B-X"][len(w) % 2] for w in text(i).split()]} for i in range(9)],
    "qa": [
        {"question": text(i), "context": text(20 + i), "answers": {"text": [c], "answer_start": [0]}}
        for i in range(9)
        for c in [text(20 + i).split()[0]]
    ],
    "seq2seq": [{"source": text(i), "target": text(70 + i)} for i in range(9)],
}
BERT = t.BertConfig(**tiny.COMMON)
MODELS = {
    "lm": lambda: tiny.model("llama"),
    "classify": lambda: tiny.model("bert"),
    "regress": lambda: t.BertForSequenceClassification(t.BertConfig(**tiny.COMMON, num_labels=1)),
    "tag": lambda: t.BertForTokenClassification(BERT),
    "qa": lambda: t.BertForQuestionAnswering(BERT),
    "seq2seq": lambda: tiny.model("t5"),
}
NAMES = {"classify": ["bad", "good"], "tag": ["B-X", "O"]}


def measured(task: str, folder: Path, batch: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(tiny.MAKERS, f"of {task}", MODELS[task])
    names = {"id2label": dict(enumerate(NAMES[task]))} if task in NAMES else {}
    base = saved(f"of {task}", folder / f"base{batch}", **names)
    data = lines(folder / "data.jsonl", ROWS[task])
    return setting.opened(base, data, options=Options(task=task, batch=batch, dtype="fp32", metrics=None))


@pytest.mark.parametrize("task", ROWS)
def test_a_loss_is_the_models_own_and_no_batch_changes_anything(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, eight = (measured(task, tmp_path, size, monkeypatch) for size in (1, 8))
    eight.model.load_state_dict(one.model.state_dict())
    alone, together = one.measure(), eight.measure()
    np.testing.assert_allclose(alone.losses, together.losses, atol=1e-4)
    assert alone.loss == pytest.approx(together.loss, abs=1e-6)
    assert alone.values() == pytest.approx(together.values(), abs=1e-4)
    records = one.data.records
    for i, encoded in enumerate(one.task.encode(records[:3], one.tools, one.limits)):
        with torch.no_grad():
            own = float(one.model(**one.task.collate([encoded.example], one.tools)).loss)
        assert alone.losses[i, 0] / alone.losses[i, 1] == pytest.approx(own, rel=1e-5)


@pytest.mark.parametrize("name", tasks.names())
def test_every_task_names_metrics_that_there_are(name: str) -> None:
    own = [m for m in tasks.by_name(name).metrics if m not in ("loss", "perplexity")]
    assert [metrics.get(m).name for m in own] == own


def test_a_preference_has_no_loss_of_one_model(llama: Path, tmp_path: Path) -> None:
    data = lines(tmp_path / "p.jsonl", [{"prompt": "w1", "chosen": "w2", "rejected": "w3"}])
    with pytest.raises(UsageError, match="two models"):
        setting.opened(llama, data, options=Options(task="preference"))
