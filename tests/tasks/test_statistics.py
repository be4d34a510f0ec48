"""Counts of what a model will see."""

from __future__ import annotations

import speaking
from adaptr import tasks
from adaptr.data import Place, Record
from adaptr.data.statistics import shared
from adaptr.tasks import Limits, Tools
from adaptr.tasks.statistics import statistics_of

ENCODER = Tools(speaking.encoder_tokenizer(), pad=0)


def records(*pairs: tuple[str, str]) -> list[Record]:
    return [Record({"text": text, "label": label}, Place("a", i)) for i, (text, label) in enumerate(pairs, 1)]


def test_counts() -> None:
    rows, limits = records(("a", "x"), ("0 1 2 3", "y"), ("a", "x"), ("a b", "x")), Limits(6, ("x", "y", "z"))
    encoded = list(tasks.by_name("classify").encode(rows, ENCODER, limits))
    found = statistics_of(rows, encoded, limits)
    assert (found.records, found.examples, found.tokens, found.learned) == (4, 4, 3 + 6 + 3 + 5, 4)
    assert (found.cut, found.cut_tokens, found.duplicates) == (1, 3, 1)
    assert (found.shortest, found.median, found.longest) == (3, 5, 6)
    assert found.labels == {"x": 3, "y": 1, "z": 0}
    assert found.said == (
        "1 of 4 records are there more than once",
        "1 of 4 records are cut at 6 tokens, 3 in all",
        "the labels `z` never occur",
    )


def test_a_text_in_rows_is_one_record() -> None:
    rows = [Record({"text": "the cat sat on the mat " * 9}, Place("a", 1))]
    encoded = list(tasks.by_name("lm").encode(rows, Tools(speaking.tokenizer()), Limits(16)))
    found = statistics_of(rows, encoded, Limits(16))
    assert (found.records, found.examples, found.said) == (1, len(encoded), ())
    assert found.learned == len(speaking.tokenizer()(rows[0].text("text"))["input_ids"])


def test_what_was_learned_and_is_measured() -> None:
    one, other = records(("a", "x"), ("b", "y")), records(("b", "y"), ("b", "y"), ("c", "y"))
    assert shared(one, other) == 2
