"""Regression: a text, or a pair of them, and a number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.data.records import Record
from adaptr.errors import shown
from adaptr.tasks.base import Batch, Encoded, Example, Limits, Task, Tools
from adaptr.tasks.models import answering, fresh, loaded, with_filling
from adaptr.tasks.texts import encoded, pads

if TYPE_CHECKING:
    from torch import nn

#: What the one output is called.
VALUE = ("value",)


class Regression(Task):
    """`text` or `text` and `text_pair`, with `label`: a number. The loss is the squared difference."""

    name = "regress"
    summary = "Say a number for a text, or for a pair of texts."
    columns = (("text", "text_pair", "label"), ("text", "label"))
    smooths = False
    metrics = ("mse", "pearson", "spearman")

    def model(self, base: Path, labels: Sequence[str], **load: object) -> nn.Module:
        options = {"problem_type": "regression"}
        return with_filling(loaded(base, "AutoModelForSequenceClassification", VALUE, load, options), base)

    def encode(self, records: Iterable[Record], tools: Tools, limits: Limits) -> Iterator[Encoded]:
        return encoded(records, tools, limits, number)

    def collate(self, examples: Sequence[Example], tools: Tools) -> Batch:
        import torch

        labels = torch.tensor([example["labels"] for example in examples], dtype=torch.float32)
        return {**pads(examples, tools), "labels": labels}

    def heads(self, model: nn.Module, base: Path) -> tuple[str, ...]:
        return fresh(model)

    def predicted(self, model: nn.Module, batch: Batch, tools: Tools) -> Sequence[float]:
        found: list[float] = answering(model, batch).logits[:, 0].float().tolist()
        return found

    def wanted(self, record: Record, limits: Limits) -> float:
        return number(record)


def number(record: Record) -> float:
    """The finite number that a record is labelled with. Raises `BadRecord`."""
    found = record.values.get("label")
    try:
        value = float(found) if isinstance(found, str | int | float) and not isinstance(found, bool) else math.nan
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise record.place.bad("`label`", got=shown(found), want="a number")
    return value
