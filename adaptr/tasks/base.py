"""`Task`: how records become batches, and a model's outputs answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar, Literal

from adaptr.data.records import Data, Record

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

#: What a collator gets: ids and labels as lists, pixels or audio features as tensors.
Example = Mapping[str, object]
Batch = Mapping[str, "Tensor"]


@dataclass(frozen=True)
class Tools:
    """What comes with a base: its tokenizer, and its processor of images or audio where it has one.

    `pad`: the id that short rows are filled with. It is masked wherever it stands. `places`: tokens that the model has
    positions for, 0 where nothing limits it. `said`: what people should know of all this, a sentence each.
    """

    tokenizer: PreTrainedTokenizerBase | None
    processor: ProcessorMixin | None = None
    pad: int = 0
    places: int = 0
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Limits:
    """`length`: tokens of an example, at most; what is beyond is cut and counted. `labels`: names in their order, for
    tasks with a head: those of the training data, or of the adapter that is measured.
    """

    length: int
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Encoded:
    """An example, the record that it is made of, and what became of that.

    `cut`: tokens that were cut off; `learns`: tokens, or answers of a head, that have a loss. `aside`: what `joined`
    needs and no model takes.
    """

    example: Example
    record: Record
    cut: int = 0
    learns: int = 1
    aside: object = field(default=None, repr=False)


class Task(ABC):
    """One file a task in this room. Raises `BadRecord` for a record that is none of this task, with its place."""

    name: ClassVar[str]
    summary: ClassVar[str]
    #: Sets of columns; a record must have one of them whole.
    columns: ClassVar[tuple[tuple[str, ...], ...]]
    #: What carries the training out.
    trainer: ClassVar[Literal["sft", "plain", "seq2seq", "dpo"]] = "plain"
    #: Whether its loss is of one right answer among some, as label smoothing wants.
    smooths: ClassVar[bool] = True
    #: What is measured beside the loss, by names of `adaptr.evaluating.metrics`; the first one is shown first.
    metrics: ClassVar[tuple[str, ...]] = ()

    def suits(self, data: Data) -> bool:
        """Whether data looks like this task's, where nobody said what is to be done with it."""
        columns = data.records[0].values.keys()
        return any(columns >= set(names) for names in self.columns)

    def labels(self, records: Sequence[Record], base: Path | None = None) -> tuple[str, ...]:
        """The names that a head must tell apart, in a fixed order, the base's own where its head has these names;
        none where the task has no head of its own.
        """
        return ()

    @abstractmethod
    def model(self, base: Path, labels: Sequence[str], **load: object) -> nn.Module:
        """The base with the head of this task, drawn from torch's generator where the base has none.

        `load`: what `from_pretrained` gets. Raises `CheckpointError` where more than a head is missing.
        """

    @abstractmethod
    def encode(self, records: Iterable[Record], tools: Tools, limits: Limits) -> Iterator[Encoded]:
        """The examples of records, in their order: one each, or several of one that is long. Read as it is asked for;
        texts go through the tokenizer many at a time.
        """

    @abstractmethod
    def collate(self, examples: Sequence[Example], tools: Tools) -> Batch:
        """Examples side by side, filled up to the longest. What a task holds them against, as answers that were
        rejected, comes behind all of them; the loss that is measured is of the examples.
        """

    def heads(self, model: nn.Module, base: Path) -> tuple[str, ...]:
        """Paths of modules that are fresh, and so are trained whole beside the adapter and travel in it. `model`: what
        `model` gave for `base`.
        """
        return ()

    @abstractmethod
    def predicted(self, model: nn.Module, batch: Batch, tools: Tools) -> Sequence[object]:
        """What the model answers to each example of a batch; through `joined`, as `metrics` take it."""

    def joined(self, encoded: Sequence[Encoded], predictions: Sequence[object]) -> list[object]:
        """One answer a record, of the predictions for each of its examples; both in the order of `encode`."""
        pairs = zip(encoded, predictions, strict=True)
        groups = groupby(pairs, key=lambda pair: id(pair[0].record))
        return [self.join(list(group)) for _, group in groups]

    def join(self, parts: Sequence[tuple[Encoded, object]]) -> object:
        """The answer of one record: the only prediction, where a record is one example."""
        ((_, prediction),) = parts
        return prediction

    @abstractmethod
    def wanted(self, record: Record, limits: Limits) -> object:
        """What the right answer is, as `metrics` take it."""

    def answers(
        self, model: nn.Module, records: Sequence[Record], tools: Tools, limits: Limits, new: int = 128
    ) -> list[str]:
        """What the model answers to each record, as a text for people. `new`: tokens of a generated text, at most."""
        return [str(one) for one in self.answering(model, records, tools, limits)]

    def answering(self, model: nn.Module, records: Sequence[Record], tools: Tools, limits: Limits) -> list[object]:
        """What the model answers to each record, as `metrics` take it; an example at a time."""
        encoded = list(self.encode(records, tools, limits))
        batches = (self.collate([one.example], tools) for one in encoded)
        return self.joined(encoded, [self.predicted(model, batch, tools)[0] for batch in batches])
