"""A model measured on records: what is kept of each, and figures with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptr.errors import BadRecord, DataError, NonFinite, UsageError
from adaptr.evaluating import metrics as known
from adaptr.evaluating.bootstrap import Figure
from adaptr.evaluating.losses import Losses

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.data.records import Place, Record
    from adaptr.evaluating.metrics.base import Array, Metric
    from adaptr.tasks.base import Encoded, Limits, Task, Tools

#: Says how far it is: records done, of how many, of what.
Progress = Callable[[int, int, str], None]

LOSS, PERPLEXITY = "loss", "perplexity"
#: What trains tasks whose answers are texts, token by token.
WORDED = frozenset({"sft", "seq2seq"})


@dataclass(frozen=True)
class Measured:
    """What one model is worth on records.

    `losses`: (n, 2), each record's summed loss in nats and what it is divided by: its tokens, or 1. `rows`: by metric
    what it keeps of each record. `cut`: records that were longer than the limit; `tokens`: those of them that were cut
    off. `worded`: whether the loss is of tokens, so that perplexity means something.
    """

    losses: Array
    rows: Mapping[str, Array] = field(default_factory=dict)
    cut: int = 0
    tokens: int = 0
    worded: bool = False

    @property
    def records(self) -> int:
        return len(self.losses)

    @property
    def loss(self) -> float:
        """The mean over all tokens of all records, in nats."""
        total, count = self.losses.sum(0)
        return float(total / count)

    @property
    def names(self) -> tuple[str, ...]:
        """What there are figures of, the loss first."""
        return (LOSS, *([PERPLEXITY] if self.worded else []), *self.rows)

    def values(self) -> dict[str, float | None]:
        """Each figure; None where there is none, as of a correlation with what does not vary."""
        import numpy as np

        found = {name: float(self.figure(name)(np.ones((1, self.records)))[0]) for name in self.names}
        return {name: value if math.isfinite(value) else None for name, value in found.items()}

    def figure(self, name: str) -> Figure:
        """How a figure follows from how often each record counts."""
        if name in (LOSS, PERPLEXITY):
            return lambda counts: _loss(counts @ self.losses, name)
        metric, rows = known.get(name), self.rows[name]
        return lambda counts: metric.score(counts, rows)


def _loss(sums: Array, name: str) -> Array:
    import numpy as np

    loss = sums[:, 0] / sums[:, 1]
    return np.exp(np.minimum(loss, 700.0)) if name == PERPLEXITY else loss  # e^700 is near the end of fp64


def chosen(names: Sequence[str]) -> dict[str, Metric]:
    """The metrics of these names, without those that are always there. Raises `UsageError`."""
    return {name: known.get(name) for name in names if name not in (LOSS, PERPLEXITY)}


def rising(name: str) -> bool:
    """Whether more of a figure is better."""
    return name not in (LOSS, PERPLEXITY) and known.get(name).rising


def measure(
    model: nn.Module,
    task: Task,
    records: Sequence[Record],
    tools: Tools,
    limits: Limits,
    *,
    metrics: Sequence[str] | None = None,
    batch: int = 8,
    progress: Progress | None = None,
) -> Measured:
    """What `model` is worth on `records`, whatever is attached to it.

    `metrics`: beside the loss, the task's own if None. `batch`: examples of one forward; the figures don't depend on
    it. Raises `BadRecord` for a record that is none, or has nothing that counts, `DataError` for no records, and
    `NonFinite` where the model says NaN.
    """
    import numpy as np

    asked = chosen(task.metrics if metrics is None else metrics)
    if not records:
        raise DataError("there is no record to measure on", hint="give some")
    encoded = list(task.encode(records, tools, limits))
    place = {id(record): i for i, record in enumerate(records)}
    written = task.trainer == "sft"  # what it predicts are likelihoods; its answers are written
    losses, done = np.zeros((len(records), 2)), 0
    said: list[object] = [None] * len(encoded)
    loss = Losses(model)
    with asking(model):
        for some in _batches(encoded, batch):
            given = _moved(task.collate([encoded[i].example for i in some], tools), model)
            found = np.stack([part.cpu().numpy()[: len(some)] for part in loss(given)], axis=1)
            np.add.at(losses, [place[id(encoded[i].record)] for i in some], found)
            if asked and not written:
                for i, answer in zip(some, task.predicted(model, given, tools), strict=True):
                    said[i] = answer
            done += len(some)
            if progress is not None:
                progress(done, len(encoded), "measuring")
        _require(losses, records)
        answered: Sequence[object] = ()
        if asked:
            answered = task.answers(model, records, tools, limits) if written else task.joined(encoded, said)
    wanted = [task.wanted(record, limits) for record in records] if asked else []
    for name, metric in asked.items():
        _require_sort(task, name, metric.takes, answered[0], wanted[0])
    return Measured(
        losses,
        {name: metric.rows(answered, wanted) for name, metric in asked.items()},
        len({id(one.record) for one in encoded if one.cut}),
        sum(one.cut for one in encoded),
        task.trainer in WORDED,
    )


@dataclass(frozen=True)
class Answered:
    """What a model said to one record, and what was wanted."""

    place: Place
    said: str
    wanted: object


def answers(model: nn.Module, task: Task, records: Sequence[Record], tools: Tools, limits: Limits) -> list[Answered]:
    """What `model` says to each record, whatever is attached to it."""
    with asking(model):
        said = task.answers(model, records, tools, limits)
    return [Answered(r.place, one, task.wanted(r, limits)) for r, one in zip(records, said, strict=True)]


@contextmanager
def asking(model: nn.Module) -> Iterator[None]:
    """The model as it answers: no gradients, no dropout; afterwards each module as it was."""
    import torch

    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in before:
            module.training = training


def _batches(encoded: Sequence[Encoded], size: int) -> Iterator[list[int]]:
    """Numbers of examples, those of about the same length together: padding costs time and changes nothing."""
    order = sorted(range(len(encoded)), key=lambda i: (-_length(encoded[i]), i))
    for start in range(0, len(order), max(size, 1)):
        yield order[start : start + max(size, 1)]


def _length(one: Encoded) -> int:
    ids = one.example.get("input_ids", ())
    return len(ids) if isinstance(ids, Sequence) or hasattr(ids, "__len__") else 0


def _moved(batch: Mapping[str, Tensor], model: nn.Module) -> dict[str, Any]:
    device = next(model.parameters()).device
    return {name: value.to(device) for name, value in batch.items()}


def _require(losses: Array, records: Sequence[Record]) -> None:
    import numpy as np

    for (total, count), record in zip(losses, records, strict=True):
        if not count:
            raise BadRecord(f"`{record.place}`: nothing of it counts in the loss", hint="raise `--length`")
        if not np.isfinite(total):
            raise NonFinite(
                f"the loss at `{record.place}` is {total}",
                hint="look at the adapter with `adaptr inspect`, or compute in fp32 (`--dtype fp32`)",
            )


#: What answers of each sort are.
_SORTS: Mapping[str, tuple[type, ...]] = {
    "class": (str, int),
    "text": (str,),
    "number": (float, int),
    "tags": (list, tuple),
}


def _require_sort(task: Task, name: str, takes: str, said: object, wanted: object) -> None:
    """Raises `UsageError` for a metric of answers of another sort than the task's, whose figure would say nothing."""
    several = takes == "text" and isinstance(wanted, list | tuple)
    other = task.trainer in WORDED and takes != "text"
    if other or not isinstance(said, _SORTS[takes]) or not (several or isinstance(wanted, _SORTS[takes])):
        own = ", ".join(task.metrics) or "the loss alone"
        raise UsageError(
            f"`{name}` is a metric of {_SAID[takes]}, and task `{task.name}` has none", hint=f"it has {own}"
        )


_SAID = {"class": "names of classes", "text": "texts", "number": "numbers", "tags": "tags of words"}
