"""Tasks whose answer is the name of a class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.data.records import Record
from adaptr.tasks.base import Batch, Limits, Task, Tools
from adaptr.tasks.labels import label, likeliest
from adaptr.tasks.models import answering, fresh

if TYPE_CHECKING:
    from torch import nn


class Classes(Task):
    """What tasks with a `label` have in common, whatever it is of."""

    metrics = ("accuracy", "f1")

    def heads(self, model: nn.Module, base: Path) -> tuple[str, ...]:
        return fresh(model)

    def predicted(self, model: nn.Module, batch: Batch, tools: Tools) -> Sequence[str]:
        """The name of the likeliest class."""
        return likeliest(model, answering(model, batch).logits)

    def wanted(self, record: Record, limits: Limits) -> str:
        return label(record, limits.labels)

    def number(self, record: Record, limits: Limits) -> int:
        """Which output of the head is right."""
        return limits.labels.index(label(record, limits.labels))
