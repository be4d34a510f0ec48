"""Sequence classification: a text, or a pair of them, and what it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.data.records import Data, Record
from adaptr.tasks.base import Batch, Encoded, Example, Limits, Tools
from adaptr.tasks.classes import Classes
from adaptr.tasks.labels import fractional, labels_of
from adaptr.tasks.models import loaded, with_filling
from adaptr.tasks.texts import encoded, pads

if TYPE_CHECKING:
    from torch import nn


class Classification(Classes):
    """`text` or `text` and `text_pair`, with `label`: a text or a number that names the class."""

    name = "classify"
    summary = "Say which of some classes a text, or a pair of texts, is of."
    columns = (("text", "text_pair", "label"), ("text", "label"))

    def suits(self, data: Data) -> bool:
        return super().suits(data) and not fractional(data.records)

    def labels(self, records: Sequence[Record], base: Path | None = None) -> tuple[str, ...]:
        return labels_of(records, base, "ForSequenceClassification")

    def model(self, base: Path, labels: Sequence[str], **load: object) -> nn.Module:
        return with_filling(loaded(base, "AutoModelForSequenceClassification", labels, load), base)

    def encode(self, records: Iterable[Record], tools: Tools, limits: Limits) -> Iterator[Encoded]:
        return encoded(records, tools, limits, lambda record: self.number(record, limits))

    def collate(self, examples: Sequence[Example], tools: Tools) -> Batch:
        import torch

        labels = torch.tensor([example["labels"] for example in examples])
        return {**pads(examples, tools), "labels": labels}
