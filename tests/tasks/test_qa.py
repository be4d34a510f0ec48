"""Answers that are spans of a context."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import speaking
from adaptr import tasks
from adaptr.data import Place, Record, read
from adaptr.errors import BadRecord
from adaptr.tasks import Encoded, Limits, Tools

QA = tasks.by_name("qa")
HAVE = Tools(speaking.encoder_tokenizer(), pad=0)
REAL = Path(__file__).resolve().parents[2].parent / "shared" / "real-data" / "squad-sample" / "sample.json"
CONTEXT = "the cat sat on the mat. Paris is the capital of France. " + "the cat sat on the mat. " * 4
AT = CONTEXT.index("Paris")


def record(answers: object, question: str = "What is the capital?", context: str = CONTEXT) -> Record:
    return Record({"question": question, "context": context, "answers": answers}, Place("a", 5))


def encoded(one: Record, length: int = 64) -> list[Encoded]:
    return list(QA.encode([one], HAVE, Limits(length)))


def marked(one: Encoded) -> str:
    """The text that is marked as the answer in an example."""
    ids: list[int] = one.example["input_ids"]  # type: ignore[assignment]
    start, end = int(str(one.example["start_positions"])), int(str(one.example["end_positions"]))
    return str(speaking.encoder_tokenizer().decode(ids[start : end + 1])).strip()


def test_a_long_context_is_several_examples_and_the_answer_is_marked_where_all_of_it_is() -> None:
    parts = encoded(record({"text": ["Paris"], "answer_start": [AT]}), 32)
    assert len(parts) > 2
    assert all(len(one.example["input_ids"]) <= 32 for one in parts)  # type: ignore[arg-type]
    assert {marked(one) for one in parts} == {"Paris", "<|im_start|>"}


@pytest.mark.parametrize(
    "answers",
    [{"text": ["Paris"], "answer_start": [AT]}, [{"text": "Paris", "answer_start": AT}]],
    ids=["columns", "objects"],
)
def test_both_forms_of_answers(answers: object) -> None:
    assert QA.wanted(record(answers), Limits(64)) == ["Paris"]
    assert "Paris" in [marked(one) for one in encoded(record(answers))]


def test_no_answer() -> None:
    nothing = record({"text": [], "answer_start": []})
    assert QA.wanted(nothing, Limits(64)) == [""]
    assert {marked(one) for one in encoded(nothing)} == {"<|im_start|>"}


def scores(one: Encoded, first: int, last: int, high: float) -> tuple[torch.Tensor, torch.Tensor]:
    """As a padded batch gives them: `high` at two tokens, and higher where no answer may be."""
    length = len(one.example["input_ids"])  # type: ignore[arg-type]
    start, end = torch.zeros(length + 3), torch.zeros(length + 3)
    start[first] = end[last] = high
    start[1] = end[2] = start[-1] = end[-1] = 2 * high  # in the question, and in what is filled
    return start, end


def test_the_best_span_of_all_windows_is_the_answer() -> None:
    parts = encoded(record({"text": ["Paris"], "answer_start": [AT]}), 32)
    where = next(i for i, one in enumerate(parts) if marked(one) == "Paris")
    given = []
    for i, one in enumerate(parts):
        first, last = int(str(one.example["start_positions"])), int(str(one.example["end_positions"]))
        given.append(scores(one, first, last, 5.0) if i == where else scores(one, 0, 0, -1.0))
    assert QA.joined(parts, given) == ["Paris"]


def test_where_no_answer_is_likelier_there_is_none() -> None:
    parts = encoded(record({"text": [], "answer_start": []}))
    assert QA.joined(parts, [scores(one, 0, 0, 3.0) for one in parts]) == [""]


BAD: list[tuple[Record, str]] = [
    (record({"text": ["Paris"], "answer_start": [0]}), f"the answer `Paris` is not at character 0 .*it is at {AT}"),
    (record({"text": ["Rome"], "answer_start": [0]}), "the context does not have it"),
    (record({"text": ["Paris"], "answer_start": [-1]}), "is not at character -1"),
    (record({"text": ["Paris"], "answer_start": []}), "wanted as many `answer_start` as `text`"),
    (record({"text": [""], "answer_start": [0]}), "an answer is"),
    (record("Paris"), "`answers` is Paris, wanted `text` and `answer_start`"),
    (record([], question=" "), "`question` is empty"),
    (record([], context=""), "`context` is empty"),
    (record([], question="cat " * 60), "the question leaves no room for its context within `length` 64"),
]


@pytest.mark.parametrize(("one", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_bad_records(one: Record, reason: str) -> None:
    with pytest.raises(BadRecord, match=f"a:5: .*{reason}"):
        encoded(one)


def test_a_model_answers_with_a_part_of_the_context(tmp_path: Path) -> None:
    base = speaking.bert(tmp_path)
    model, have = QA.model(base, ()).eval(), tasks.tools(base)
    assert QA.heads(model, base) == ("qa_outputs",)
    one = record({"text": ["Paris"], "answer_start": [AT]})
    batch = QA.collate([part.example for part in QA.encode([one], have, Limits(64))], have)
    assert torch.isfinite(model(**batch).loss)
    assert QA.answers(model, [one], have, Limits(64))[0] in CONTEXT


@pytest.mark.skipif(not REAL.is_file(), reason="the genuine data sets are not beside the repository")
def test_genuine_questions() -> None:
    for one in read(REAL).records:
        wanted = QA.wanted(one, Limits(128))
        marks = {marked(part) for part in QA.encode([one], HAVE, Limits(256))} - {"<|im_start|>"}
        assert marks <= {wanted[0].strip()}  # type: ignore[index]
        assert bool(marks) == (wanted != [""])
