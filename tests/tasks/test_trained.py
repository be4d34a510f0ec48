"""Each task from a file of records to an adapter, with what its head learned in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import adaptr
import speaking
from adaptr.errors import Unsupported

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of TRL and transformers among themselves
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
CONTEXT = "the cat sat on the mat. Paris is the capital of France."
PIXELS = [[[(i * j * 7) % 256, i * 16, j * 16] for j in range(16)] for i in range(16)]
SOUND = [[(i * j % 10) / 10 for j in range(100)] for i in range(8)]
CHAT = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "the cat"}]

CASES: dict[str, tuple[Callable[[Path], Path], dict[str, Any], dict[str, Any], str]] = {
    "chat": (speaking.llama, {"messages": CHAT}, {}, ""),
    "packed": (speaking.llama, {"prompt": "What?\n", "completion": "the cat"}, {"pack": True, "length": 64}, ""),
    "text": (speaking.llama, {"text": "the cat sat " * 30}, {"length": 32}, ""),
    "preference": (speaking.llama, {"prompt": "a\n", "chosen": "the cat", "rejected": "b"}, {"objective": "dpo"}, ""),
    "decoder": (speaking.llama, {"text": "the cat", "label": "a"}, {"task": "classify"}, "score"),
    "classify": (speaking.bert, {"text": "the cat", "label": "a"}, {}, "classifier"),
    "regress": (speaking.bert, {"text": "the cat", "label": 0.5}, {}, "classifier"),
    "tag": (speaking.bert, {"words": ["the", "cat"], "tags": ["O", "B-CAT"]}, {}, "classifier"),
    "qa": (
        speaking.bert,
        {"question": "Where?", "context": CONTEXT, "answers": {"text": ["Paris"], "answer_start": [24]}},
        {"length": 64},
        "qa_outputs",
    ),
    "seq2seq": (speaking.t5, {"source": "the cat", "target": "a mat"}, {}, ""),
    "speech": (speaking.whisper, {"input_features": SOUND, "text": "the cat"}, {}, ""),
    "image": (speaking.vit, {"image": PIXELS, "label": "a"}, {}, "classifier"),
}


@pytest.mark.parametrize("name", CASES)
def test_from_records_to_an_adapter(tmp_path: Path, name: str) -> None:
    make, row, fields, head = CASES[name]
    pytest.importorskip("trl" if make is speaking.llama else "accelerate")
    rows = [row, {**row, "label": 0.25 if name == "regress" else "b"}] if "label" in row else [row] * 2
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    base = make(tmp_path / "base")
    options = {"method": "lora", "targets": None, "steps": 1, "batch": 2, **fields}
    report = adaptr.fit(base, tmp_path / "a.jsonl", tmp_path / "a.safetensors", **options)
    made = adaptr.load(report.out)
    whole = {key.rpartition(":")[0].rpartition(".")[0] for key in made.tensors if key.endswith(":=")}
    assert whole == ({head} if head else set())
    assert any(tensor.any() for key, tensor in made.tensors.items() if key.endswith(":B"))


def test_what_is_not_as_expected_is_said(tmp_path: Path) -> None:
    rows = [{"text": "the cat sat on the mat", "label": label} for label in ("a", "b", "b")]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    base = speaking.bert(tmp_path / "base")
    valid = tmp_path / "b.jsonl"
    valid.write_text(json.dumps(rows[0]) + "\n")
    report = adaptr.fit(base, tmp_path / "a.jsonl", method="lora", steps=1, batch=2, length=4, valid=str(valid))
    for said in ("1 of 3 records are there more than once", "3 of 3 records are cut at 4 tokens", "1 of 1 validation"):
        assert any(note.startswith(said) for note in report.notes)
    assert report.statistics["labels"] == {"a": 1, "b": 2}


def test_packing_is_refused_where_records_would_see_one_another(tmp_path: Path) -> None:
    import transformers as t

    base = speaking.llama(tmp_path / "base")
    small = {"vocab_size": 320, "hidden_size": 32, "n_layer": 1, "n_head": 4, "pad_token_id": 0}
    t.BloomForCausalLM(t.BloomConfig(**small)).save_pretrained(base)
    (tmp_path / "a.jsonl").write_text('{"text": "the cat sat"}\n' * 3)
    with pytest.raises(Unsupported, match="leave `pack` out"):
        adaptr.fit(base, tmp_path / "a.jsonl", method="lora", steps=1, pack=True, length=64)
