"""Texts with numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import speaking
from adaptr import tasks
from adaptr.data import Place, Record
from adaptr.errors import BadRecord
from adaptr.tasks import Limits, Tools

REGRESS = tasks.by_name("regress")
LIMITS = Limits(64)


def test_the_loss_is_the_squared_difference(tmp_path: Path) -> None:
    base = speaking.bert(tmp_path)
    model, have = REGRESS.model(base, ()).eval(), tasks.tools(base)
    assert REGRESS.heads(model, base) == ("classifier",)
    records = [Record({"text": t, "label": n}, Place("a", 1)) for t, n in (("a", 0.5), ("the cat", "2"), ("b", 3))]
    batch = REGRESS.collate([one.example for one in REGRESS.encode(records, have, LIMITS)], have)
    said = torch.tensor(REGRESS.predicted(model, batch, have))
    wanted = torch.tensor([REGRESS.wanted(record, LIMITS) for record in records])
    torch.testing.assert_close(model(**batch).loss, ((said - wanted) ** 2).mean())


@pytest.mark.parametrize("label", [None, "high", True, float("nan"), "inf", [1]])
def test_what_is_no_number(label: object) -> None:
    have = Tools(speaking.encoder_tokenizer())
    with pytest.raises(BadRecord, match=r"a:4: `label` is .*wanted a number"):
        list(REGRESS.encode([Record({"text": "a", "label": label}, Place("a", 4))], have, LIMITS))
