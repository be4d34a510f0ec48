"""A base, loaded once, and the records that it is measured on, with adapters attached and taken off again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.errors import DataError, UsageError
from adaptr.evaluating import heads
from adaptr.evaluating.measure import Measured, Progress, measure
from adaptr.models.belonging import require_named
from adaptr.models.devices import device
from adaptr.runtime.stack import Stack, stack
from adaptr.tasks.base import Limits, Task, Tools

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.adapter.weighting import Weight
    from adaptr.data.records import Data, Record

#: Tokens of a record, at most, where the model takes more.
LENGTH = 1024
#: Where: losses are summed in fp64, which `mps` has not.
DEVICES = ("cuda", "cpu")
DTYPES = {"auto": "auto", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True)
class Options:
    """How data is read and measured. `columns`: the task's names to the file's; `length`: tokens of a record at most,
    0 for what the model takes, up to `LENGTH`; `batch`: records of a forward; `metrics`: the task's own if None.
    """

    task: str = "auto"
    columns: Mapping[str, str] | None = None
    length: int = 0
    batch: int = 8
    metrics: tuple[str, ...] | None = None
    dtype: str = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.length < 0 or self.length == 1:
            raise UsageError("the length", got=self.length, want="2 or more tokens, or 0 for what the model takes")
        if self.batch < 1:
            raise UsageError("the batch", got=self.batch, want="at least 1")
        if self.dtype not in DTYPES:
            raise UsageError(f"the dtype `{self.dtype}`", want=f"one of {', '.join(DTYPES)}")


@dataclass(frozen=True)
class Setting:
    """`fresh`: heads that the base has not; `owned`: whether the base's own head tells the data's classes. `notes`:
    what people should know, a sentence each.
    """

    base: Path
    model: nn.Module
    task: Task
    tools: Tools
    limits: Limits
    data: Data
    options: Options
    fresh: tuple[str, ...] = ()
    owned: bool = True
    notes: tuple[str, ...] = ()

    @contextmanager
    def attached(self, adapters: Mapping[str, tuple[Adapter, Weight]]) -> Iterator[Stack]:
        """The base with adapters by name, each at its weight. Raises what attaching raises, and `CheckpointError` where
        a head would be random.
        """
        for adapter, _ in adapters.values():
            if len(adapters) == 1 or heads.absent(self.fresh, adapter) != list(self.fresh):
                self._require(adapter)
        with stack(self.model, adapters) as on:
            yield on

    def _require(self, adapter: Adapter) -> None:
        if not self.owned and not adapter.replaced:
            raise DataError(
                f"the base's head tells other classes than the data has, and `{adapter.label}` brings no head",
                want=f"one that tells {', '.join(self.limits.labels)}",
            )
        heads.require(self.fresh, adapter, self.base)

    @property
    def bare(self) -> str:
        """Why the bare base can't be measured; "" if it can."""
        if not self.owned:
            return "the base's head tells other classes than the data has: it is not measured"
        return f"the base has no `{self.fresh[0]}`: it can't be measured without an adapter" if self.fresh else ""

    def measure(self, records: Sequence[Record] | None = None, progress: Progress | None = None) -> Measured:
        """What the model is worth as it is now, on all records or on these."""
        chosen = self.data.records if records is None else records
        options = {"metrics": self.options.metrics, "batch": self.options.batch, "progress": progress}
        return measure(self.model, self.task, chosen, self.tools, self.limits, **options)  # type: ignore[arg-type]


def opened(
    base: Path,
    data: str | Path,
    adapters: Sequence[Adapter] = (),
    options: Options | None = None,
    any_base: bool = False,
) -> Setting:
    """Read the data, find the task, load the base. Raises `DataError` and `BadRecord` for data that is none,
    `CheckpointError`, `WrongBase` for an adapter that names another base, unless `any_base`.
    """
    from adaptr.data import read
    from adaptr.tasks import find, tools

    options = options or Options()
    known_metrics(options.metrics)
    require_named(base, adapters, any_base)
    found = read(data, options.columns or {})
    task = find(options.task, base, found)
    if task.trainer == "dpo":
        raise UsageError(f"task `{task.name}` compares two models, and has no loss of one", hint="measure another task")
    names = heads.labels(task, found.records, base, adapters)
    kit = tools(base)
    model = task.model(base, names, dtype=DTYPES[options.dtype]).eval()
    model.to(device(options.device, DEVICES))
    length, note = _length(kit.places, options.length)
    fresh = task.heads(model, base)
    owned = heads.of_base(model, base, names)
    if not owned and not any(adapter.replaced for adapter in adapters):
        raise DataError(
            f"the base's head tells other classes than the data has, or in another order: {', '.join(names)}",
            hint="name the classes in the data as the base does",
        )
    notes = (*found.said, *kit.said, *note, *_unsaid(names, adapters))
    return Setting(base, model, task, kit, Limits(length, names), found, options, fresh, owned, notes)


def known_metrics(names: Sequence[str] | None) -> None:
    """Raises `UsageError` for a metric that is none, before anything is loaded."""
    from adaptr.evaluating.measure import chosen

    chosen(names or ())


def _length(most: int, wanted: int) -> tuple[int, tuple[str, ...]]:
    length = min(most or LENGTH, wanted or LENGTH)
    short = wanted and most and most < wanted
    return length, ((f"the model takes {most} tokens at most, not {wanted}",) if short else ())


def _unsaid(names: Sequence[str], adapters: Sequence[Adapter]) -> tuple[str, ...]:
    return tuple(
        f"`{adapter.label}` brings a head and does not say how its classes are called: taken as {', '.join(names)}"
        for adapter in adapters
        if names and adapter.replaced and not heads.said(adapter)
    )
