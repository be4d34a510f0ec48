"""Texts made of others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import speaking
from adaptr import tasks
from adaptr.data import Place, Record
from adaptr.errors import BadRecord
from adaptr.tasks import Limits, Tools

SEQ2SEQ = tasks.by_name("seq2seq")
HAVE = Tools(speaking.tokenizer(None), pad=0)


def record(**values: object) -> Record:
    return Record(values, Place("a", 1))


@pytest.mark.parametrize("names", [("source", "target"), ("prompt", "completion")])
def test_source_and_target(names: tuple[str, str]) -> None:
    (one,) = SEQ2SEQ.encode([record(**dict(zip(names, ("a b", "c"), strict=True)))], HAVE, Limits(64))
    decode = speaking.tokenizer().decode
    assert [decode(one.example[name]) for name in ("input_ids", "labels")] == ["a b", "c<|im_end|>"]
    assert SEQ2SEQ.wanted(one.record, Limits(64)) == "c"


def test_what_is_too_long_is_cut_and_counted() -> None:
    (one,) = SEQ2SEQ.encode([record(source="0 1 2 3 4", target="0 1 2 3")], HAVE, Limits(5))
    assert [len(one.example[name]) for name in ("input_ids", "labels")] == [5, 5]  # type: ignore[arg-type]
    assert (one.cut, one.learns) == (4 + 3, 5)


@pytest.mark.parametrize(
    ("values", "reason"),
    [({"source": "", "target": "a"}, "`source` is empty"), ({"source": "a"}, "`target` is missing")],
)
def test_bad_records(values: dict[str, object], reason: str) -> None:
    with pytest.raises(BadRecord, match=f"a:1: {reason}"):
        list(SEQ2SEQ.encode([record(**values)], HAVE, Limits(5)))


def test_a_model_learns_and_writes(tmp_path: Path) -> None:
    base = speaking.t5(tmp_path)
    model, have = SEQ2SEQ.model(base, ()).eval(), tasks.tools(base)
    records = [record(source="a b", target="c"), record(source="the cat sat", target="on the mat")]
    batch = SEQ2SEQ.collate([one.example for one in SEQ2SEQ.encode(records, have, Limits(64))], have)
    assert torch.isfinite(model(**batch).loss)
    alone = SEQ2SEQ.answers(model, records, have, Limits(64))
    assert SEQ2SEQ.predicted(model, batch, have) == alone
