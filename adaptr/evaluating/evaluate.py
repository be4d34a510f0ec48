"""A base, each adapter on it alone, and all of them together, measured on the same records."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptr.adapter import weighting
from adaptr.errors import NotPossible, UsageError
from adaptr.evaluating import setting
from adaptr.evaluating.bootstrap import Bootstrap, Interval
from adaptr.evaluating.measure import PERPLEXITY, Measured, Progress, rising
from adaptr.evaluating.report import BASE, TOGETHER, EvalReport, Row
from adaptr.evaluating.second import Text, measured
from adaptr.evaluating.setting import Options, Setting
from adaptr.format import digest
from adaptr.sources.given import Several, by_name, opened, several
from adaptr.sources.resolve import Place, resolve

if TYPE_CHECKING:
    from adaptr.adapter import Adapter
    from adaptr.adapter.weighting import Weight

#: (adapter, weight) by name.
Attached = Mapping[str, tuple["Adapter", "Weight"]]


def evaluate(
    base: Place,
    adapters: Several = (),
    data: str | os.PathLike[str] = "",
    *,
    second: str | os.PathLike[str] | None = None,
    task: str = "auto",
    columns: Mapping[str, str] | None = None,
    metrics: str | Sequence[str] | None = None,
    length: int = 0,
    batch: int = 8,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    dtype: str = "auto",
    device: str = "auto",
    any_base: bool = False,
    progress: Progress | None = None,
) -> EvalReport:
    """What `base`, each of `adapters` alone and all of them together are worth on the records in `data`.

    `task`: of the records, `auto` for what they look like. `batch`: records at a time. `dtype`, `device`: of the base,
    `auto` for what its files have and what is there. `any_base`: go on although an adapter says that it is of another
    base. `confidence`: of intervals, such as 0.95. `second`: a text on which forgetting is measured. `columns`: the
    task's names of columns to the file's. `metrics`: beside the loss, the task's own if None. `length`: tokens of a
    record, at most; 0 for what the model takes, up to 1024. Intervals are by bootstrap over the records, `resamples`
    times with `seed`; those of gains are of pairs.

    Raises `DataError` and `BadRecord` for data that is none of the task, `UsageError` for an unknown metric or one of
    another sort, `CheckpointError`, `WrongBase`, `MissingExtra`, and what attaching raises.
    """
    started = time.perf_counter()
    sure = Bootstrap(resamples, confidence, seed)
    if not os.fspath(data):
        raise UsageError("there is no data to measure on", hint="give a file of records: `--data FILE`")
    root = resolve(base)
    names = (metrics,) if isinstance(metrics, str) else metrics
    options = Options(task, columns, length, batch, None if names is None else tuple(names), dtype, device)
    setting.known_metrics(options.metrics)
    text = None if second is None else Text.read(os.fspath(second))
    attached: dict[str, tuple[Adapter, Weight]] = {
        name: (opened(each.what, root.path), weighting.checked(each.weight, each.label))
        for name, each in by_name(several(adapters, least=0)).items()
    }
    here = setting.opened(root.path, os.fspath(data), [a for a, _ in attached.values()], options, any_base)
    rows, found, notes = _rows(here, attached, text, sure, progress)
    any_row = next(iter(found.values()))
    return EvalReport(
        base=root.given,
        architecture=type(here.model).__name__,
        task=here.task.name,
        dtype=str(next(here.model.parameters()).dtype).removeprefix("torch."),
        length=here.limits.length,
        adapters=tuple(
            {"name": name, "method": a.method, "weight": w, "digest": digest.of_adapter(a.held())}
            for name, (a, w) in attached.items()
        ),
        metrics={name: rising(name) for name in any_row.names},
        records=any_row.records,
        cut=any_row.cut,
        tokens=any_row.tokens,
        data=here.data.digest,
        second="" if text is None else text.digest,
        resamples=resamples,
        confidence=confidence,
        seed=seed,
        rows=rows,
        notes=(*here.notes, *notes),
        seconds=time.perf_counter() - started,
    )


def _said(name: str, adapter: Adapter, weight: Weight) -> dict[str, Any]:
    return {"name": name, "method": adapter.method, "weight": weight, "digest": digest.of_adapter(adapter.held())}


def _rows(
    here: Setting, adapters: Attached, text: Text | None, sure: Bootstrap, progress: Progress | None
) -> tuple[tuple[Row, ...], dict[str, Measured], list[str]]:
    """The rows, what each was made of, and why one is missing."""
    found: dict[str, tuple[Measured, Measured | None]] = {}
    notes = [here.bare] if here.bare else []
    for name, chosen in _choices(adapters).items():
        if not chosen and here.bare:
            continue
        try:
            with here.attached(chosen):
                own = here.measure(progress=_called(progress, name))
                other = None if text is None else measured(here, text, _called(progress, name))
        except NotPossible as error:
            if len(chosen) < 2:
                raise
            notes.append(f"all together can't be measured: {error}")
            continue
        found[name] = own, other
    if not found:
        raise UsageError(here.bare, hint="give an adapter that brings one")
    rows = [_row(name, tuple(_choices(adapters)[name]), found, sure) for name in found]
    return tuple(rows), {name: own for name, (own, _) in found.items()}, notes


def _choices(adapters: Attached) -> dict[str, Attached]:
    """What is attached, by what it is called: nothing, each alone, and all."""
    alone = {_free(name): {name: pair} for name, pair in adapters.items()}
    return {BASE: {}, **alone, **({TOGETHER: adapters} if len(adapters) > 1 else {})}


def _free(name: str) -> str:
    return f"{name} (adapter)" if name in (BASE, TOGETHER) else name


def _row(
    name: str, adapters: tuple[str, ...], found: Mapping[str, tuple[Measured, Measured | None]], sure: Bootstrap
) -> Row:
    own, other = found[name]
    before, other_before = found.get(BASE, (None, None))
    gain = {} if name == BASE or before is None else {m: _gain(own, before, m, sure) for m in own.names}
    return Row(
        name,
        adapters,
        {metric: sure.interval(own.figure(metric), own.records) for metric in own.names},
        gain,
        None if other is None else sure.interval(other.figure(PERPLEXITY), other.records),
        _gain(other, other_before, PERPLEXITY, sure) if other and other_before and name != BASE else None,
    )


def _gain(own: Measured, before: Measured, metric: str, sure: Bootstrap) -> Interval:
    return sure.gain(own.figure(metric), before.figure(metric), own.records)


def _called(progress: Progress | None, name: str) -> Progress | None:
    return None if progress is None else lambda done, total, what: progress(done, total, f"{name}: {what}")
