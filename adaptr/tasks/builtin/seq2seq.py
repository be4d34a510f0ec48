"""Sequence to sequence: a text made of another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.data.records import Record
from adaptr.tasks.base import Batch, Encoded, Example, Limits, Task, Tools
from adaptr.tasks.generating import written
from adaptr.tasks.models import loaded
from adaptr.tasks.padding import IGNORED, batches, padded
from adaptr.tasks.texts import needed, nonempty, room

if TYPE_CHECKING:
    from torch import nn


class Seq2Seq(Task):
    """`source` and `target`, or `prompt` and `completion`; each is cut to `length`."""

    name = "seq2seq"
    summary = "Make a text of another: a translation, a summary."
    columns = (("source", "target"), ("prompt", "completion"))
    trainer = "seq2seq"
    metrics = ("rougeL", "exact_match")

    def model(self, base: Path, labels: Sequence[str], **load: object) -> nn.Module:
        return loaded(base, "AutoModelForSeq2SeqLM", load=load)

    def encode(self, records: Iterable[Record], tools: Tools, limits: Limits) -> Iterator[Encoded]:
        tokenizer, length = needed(tools), room(tools, limits)
        for many in batches(records):
            names = [self._columns(record) for record in many]
            texts = [nonempty(record, source) for record, (source, _) in zip(many, names, strict=True)]
            targets = [nonempty(record, target) for record, (_, target) in zip(many, names, strict=True)]
            sources = tokenizer(texts, return_attention_mask=False, verbose=False)["input_ids"]
            wanted = tokenizer(text_target=targets, return_attention_mask=False, verbose=False)["input_ids"]
            for record, ids, labels in zip(many, sources, wanted, strict=True):
                end = tokenizer.eos_token_id
                whole = labels if end is None or labels[-1:] == [end] else [*labels, end]
                example = {"input_ids": _ended(ids, length, end), "labels": whole[:length]}
                cut = len(ids) + len(whole) - len(example["input_ids"]) - len(example["labels"])
                yield Encoded(example, record, cut, len(example["labels"]))

    def collate(self, examples: Sequence[Example], tools: Tools) -> Batch:
        return padded(examples, {"input_ids": tools.pad, "labels": IGNORED})

    def predicted(self, model: nn.Module, batch: Batch, tools: Tools) -> Sequence[str]:
        """What the model writes, always the likeliest token."""
        inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
        return written(model, inputs, tools)

    def wanted(self, record: Record, limits: Limits) -> str:
        return record.text(self._columns(record)[1])

    def _columns(self, record: Record) -> tuple[str, ...]:
        return next((names for names in self.columns if set(names) <= record.values.keys()), self.columns[0])


def _ended(ids: list[int], length: int, end: int | None) -> list[int]:
    """A source that is too long still ends as it did."""
    return ids if len(ids) <= length else [*ids[: length - 1], ids[-1] if ids[-1] == end else ids[length - 1]]
