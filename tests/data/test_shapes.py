"""Shapes that data sets commonly have."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adaptr.data import read
from adaptr.errors import BadRecord

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real-data"
real = pytest.mark.skipif(not REAL.is_dir(), reason="the genuine data sets are not beside the repository")


def shaped(folder: Path, *rows: dict[str, Any]) -> tuple[list[Any], tuple[str, ...]]:
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = read(folder / "a.jsonl")
    return [record.values for record in data.records], data.said


SHAPES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {
            "conversations": [
                {"from": "system", "value": "s"},
                {"from": "human", "value": "a"},
                {"from": "gpt", "value": "b"},
            ]
        },
        {"messages": [{"role": r, "content": c} for r, c in (("system", "s"), ("user", "a"), ("assistant", "b"))]},
        "ShareGPT",
    ),
    (
        {"question": "a", "response_j": "b", "response_k": "c"},
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        "paired",
    ),
    (
        {"sentence1": "a", "sentence2": "b", "label": 1, "idx": 0},
        {"text": "a", "text_pair": "b", "label": 1, "idx": 0},
        "pairs",
    ),
    ({"premise": "a", "hypothesis": "b", "label": 1}, {"text": "a", "text_pair": "b", "label": 1}, "premises"),
    ({"sentence": "a", "label": 1}, {"text": "a", "label": 1}, "sentences with labels"),
    ({"translation": {"en": "a", "ro": "b"}}, {"source": "a", "target": "b"}, "translations"),
    ({"document": "a", "summary": "b"}, {"source": "a", "target": "b"}, "summaries"),
    ({"tokens": ["a"], "ner_tags": [0]}, {"words": ["a"], "tags": [0]}, "tokens with tags"),
    ({"question": "a", "answer": "b"}, {"prompt": "a", "completion": "b"}, "questions with answers"),
]


@pytest.mark.parametrize(("row", "wanted", "title"), SHAPES, ids=[title for *_, title in SHAPES])
def test_shapes(tmp_path: Path, row: dict[str, Any], wanted: dict[str, Any], title: str) -> None:
    (found,), said = shaped(tmp_path, row)
    assert found == wanted
    assert title in said[0]


def test_what_our_tasks_know_is_left_as_it_is(tmp_path: Path) -> None:
    row = {"question": "a", "context": "b", "answers": {"text": [], "answer_start": []}, "answer": "c"}
    assert shaped(tmp_path, row) == ([row], ())


def test_instructions_are_asked_in_alpacas_words(tmp_path: Path) -> None:
    rows, said = shaped(
        tmp_path,
        {"instruction": "Do.", "input": "x", "output": "y"},
        {"instruction": "Do.", "input": "", "output": "z"},
    )
    assert rows[0]["prompt"].endswith("### Instruction:\nDo.\n\n### Input:\nx\n\n### Response:\n")
    assert rows[1]["prompt"].endswith("### Instruction:\nDo.\n\n### Response:\n")
    assert [row["completion"] for row in rows] == ["y", "z"]
    assert said == (
        "the columns `instruction`, `output` are known as Alpaca's instructions, in Alpaca's words, read as `prompt`, "
        "`completion`",
    )


BAD: list[tuple[dict[str, Any], str]] = [
    ({"conversations": []}, "`conversations` is .*, wanted a list of `from` and `value`"),
    ({"conversations": [{"from": "alien", "value": "a"}]}, "who speaks in turn 1 is `alien`"),
    ({"conversations": [{"from": "gpt"}]}, "turn 1 of `conversations`"),
    ({"translation": {"en": "a"}}, "wanted two languages"),
    ({"instruction": "a", "output": 1}, "`output` is 1, wanted a text"),
]


@pytest.mark.parametrize(("row", "match"), BAD, ids=[match for _, match in BAD])
def test_bad_records(tmp_path: Path, row: dict[str, Any], match: str) -> None:
    with pytest.raises(BadRecord, match=rf"a\.jsonl:1: .*{match}"):
        shaped(tmp_path, row)


def test_a_record_that_lacks_what_the_first_has(tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match=r"a\.jsonl:2: `answer` is missing, which the first record has"):
        shaped(tmp_path, {"question": "a", "answer": "b"}, {"question": "a"})


@real
def test_alpaca_is_as_alpaca_wrote_it() -> None:
    """The genuine file has the whole text too."""
    records = read(REAL / "alpaca-tiny/alpaca_tiny.json").records
    assert all(f"{r.values['prompt']}{r.values['completion']}" == r.values["text"] for r in records)


@real
@pytest.mark.parametrize(
    ("file", "count", "columns"),
    [
        ("sst2/dev.tsv", 6735, {"text", "label"}),
        ("mrpc-sample/train.tsv", 6, {"text", "text_pair", "label"}),
        ("mrpc-sample/train.csv", 6, {"text", "text_pair", "label"}),
        ("xsum-sample/sample.json", 10, {"source", "target"}),
        ("wmt-en-ro/train.json", 11, {"source", "target"}),
        ("squad-sample/sample.json", 14, {"question", "context", "answers"}),
        ("alpaca-tiny/stack_exchange_paired_tiny.json", 25, {"prompt", "chosen", "rejected"}),
        ("tinyshakespeare/input.txt", 7222, {"text"}),
        ("e2e-nlg/test.txt", 4693, {"text"}),
    ],
)
def test_genuine_data(file: str, count: int, columns: set[str]) -> None:
    data = read(REAL / file)
    assert len(data.records) == count
    assert columns <= set(data.columns)
