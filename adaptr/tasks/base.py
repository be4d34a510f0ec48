"""`Task`: how records become batches, and a model's outputs answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from adaptr.data.records import Record

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase, ProcessorMixin

#: What a collator gets: ids and labels as lists, pixels or audio features as tensors.
Example = Mapping[str, object]
Batch = Mapping[str, "Tensor"]


@dataclass(frozen=True)
class Tools:
    """What comes with a base: its tokenizer, and its processor of images or audio where it has one."""

    tokenizer: PreTrainedTokenizerBase | None
    processor: ProcessorMixin | None = None


@dataclass(frozen=True)
class Limits:
    """`length`: tokens of an example, at most; what is beyond is cut and counted. `labels`: names in their order, for
    tasks with a head: those of the training data, or of the adapter that is measured.
    """

    length: int
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Encoded:
    """An example and what became of its record. `cut`: tokens that were cut off; `learns`: tokens that have a loss."""

    example: Example
    cut: int = 0
    learns: int = 0


class Task(ABC):
    """One file a task in this room. Raises `BadRecord` for a record that is none of this task, with its place."""

    name: ClassVar[str]
    summary: ClassVar[str]
    #: Sets of columns; a record must have one of them whole.
    columns: ClassVar[tuple[tuple[str, ...], ...]]
    #: What carries the training out.
    trainer: ClassVar[Literal["sft", "plain", "seq2seq", "dpo"]] = "plain"
    #: What is measured beside the loss, by names of `adaptr.evaluating.metrics`; the first one is shown first.
    metrics: ClassVar[tuple[str, ...]] = ()

    def labels(self, records: Sequence[Record]) -> tuple[str, ...]:
        """The names that a head must tell apart, in a fixed order; none where the task has no head of its own."""
        return ()

    @abstractmethod
    def model(self, base: Path, labels: Sequence[str], **load: object) -> nn.Module:
        """The base with the head of this task, fresh where the base has none. `load`: what `from_pretrained` gets."""

    @abstractmethod
    def encode(self, record: Record, tools: Tools, limits: Limits) -> Encoded: ...

    @abstractmethod
    def collate(self, examples: Sequence[Example], tools: Tools) -> Batch: ...

    def heads(self, model: nn.Module, base: Path) -> tuple[str, ...]:
        """Paths of modules that are fresh, and so are trained whole beside the adapter and travel in it."""
        return ()

    @abstractmethod
    def predicted(self, model: nn.Module, batch: Batch, tools: Tools) -> Sequence[object]:
        """What the model answers to each example of a batch, as `metrics` take it."""

    @abstractmethod
    def wanted(self, record: Record, limits: Limits) -> object:
        """What the right answer is, as `metrics` take it."""
