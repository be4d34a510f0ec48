"""A task of the evaluation harness, by a task file over JSON lines on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import adaptr
from adaptr.errors import InputError, UsageError
from adaptr.evaluating.harness import harness
from evaluating.conftest import text

TASK = """task: spelled
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
output_type: multiple_choice
test_split: test
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: ["w1", "w2"]
doc_to_target: answer
metric_list:
  - metric: acc
"""

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    rows = [{"prompt": text(i), "answer": i % 2} for i in range(8)]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "spelled.yaml").write_text(TASK.format(data=tmp_path / "data.jsonl"))
    return tmp_path


def test_a_local_task_is_measured_for_the_base_and_each_adapter(
    folder: Path, llama: Path, loras: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    report = harness(llama, loras, "spelled", folder)
    assert [row.name for row in report.rows] == ["base", "style", "tone", "together"]
    from transformers import AutoTokenizer, LlamaForCausalLM

    model, words = LlamaForCausalLM.from_pretrained(llama), AutoTokenizer.from_pretrained(llama)
    rows = [json.loads(line) for line in (folder / "data.jsonl").read_text().splitlines()]
    with adaptr.attach(model, loras[0]):
        right = 0
        for row in rows:
            logits = model(**words(row["prompt"], return_tensors="pt")).logits[0, -1]
            right += int(logits[words.convert_tokens_to_ids(["w1", "w2"])].argmax()) == row["answer"]
    assert report.rows[1].values["acc"] == right / 8


def test_a_task_that_is_not_there_is_refused(folder: Path, llama: Path) -> None:
    with pytest.raises(UsageError, match="spelled"):
        harness(llama, (), "spelt", folder)
    with pytest.raises(InputError):
        harness(llama, (), "spelled", folder / "nothing")
