"""Sequence classification: a text, or a pair of them, and what it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.data.records import Record
from adaptr.tasks.base import Batch, Encoded, Example, Limits, Task, Tools
from adaptr.tasks.labels import label, labels_of
from adaptr.tasks.models import fresh, loaded, placed
from adaptr.tasks.texts import encoded, pads

if TYPE_CHECKING:
    from torch import nn


class Classification(Task):
    """`text` or `text` and `text_pair`, with `label`: a text or a number that names the class."""

    name = "classify"
    summary = "Say which of some classes a text, or a pair of texts, is of."
    columns = (("text", "text_pair", "label"), ("text", "label"))
    metrics = ("accuracy", "f1")

    def labels(self, records: Sequence[Record], base: Path | None = None) -> tuple[str, ...]:
        return labels_of(records, base, "ForSequenceClassification")

    def model(self, base: Path, labels: Sequence[str], **load: object) -> nn.Module:
        return with_filling(loaded(base, "AutoModelForSequenceClassification", labels, load), base)

    def encode(self, records: Iterable[Record], tools: Tools, limits: Limits) -> Iterator[Encoded]:
        ids = {name: i for i, name in enumerate(limits.labels)}
        return encoded(records, tools, limits, lambda record: ids[label(record, limits.labels)])

    def collate(self, examples: Sequence[Example], tools: Tools) -> Batch:
        import torch

        labels = torch.tensor([example["labels"] for example in examples])
        return {**pads(examples, tools), "labels": labels}

    def heads(self, model: nn.Module, base: Path) -> tuple[str, ...]:
        return fresh(model)

    def predicted(self, model: nn.Module, batch: Batch, tools: Tools) -> Sequence[str]:
        """The name of the likeliest class."""
        import torch

        inputs = placed(model, batch)
        inputs.pop("labels", None)
        with torch.no_grad():
            best = model(**inputs).logits.argmax(-1).tolist()
        names: dict[int, str] = model.config.id2label  # type: ignore[union-attr, assignment]
        return [names[i] for i in best]

    def wanted(self, record: Record, limits: Limits) -> str:
        return label(record, limits.labels)


def with_filling(model: nn.Module, base: Path) -> nn.Module:
    """The model told which token fills rows: a decoder answers at the last token that is none."""
    config = model.config
    if getattr(config, "pad_token_id", None) is None:
        from adaptr.tasks.tools import tools

        config.pad_token_id = tools(base).pad  # type: ignore[union-attr]
    return model
