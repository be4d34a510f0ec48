"""Tasks of EleutherAI's evaluation harness, on a base with adapters attached. It needs the package `lm-eval`.

The harness gets the live model: adapters are attached and taken off again between its calls.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import weighting
from adaptr.errors import InputError, MissingExtra, UsageError
from adaptr.evaluating.report import BASE, TOGETHER
from adaptr.evaluating.setting import DTYPES
from adaptr.models.belonging import require_named
from adaptr.models.load import explained, model_at, quiet_transformers
from adaptr.report import Report
from adaptr.runtime.stack import stack
from adaptr.sources.given import Several, by_name, opened, several
from adaptr.sources.resolve import Place, resolve

if TYPE_CHECKING:
    from types import ModuleType

    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from torch import nn
    from transformers import PreTrainedTokenizerBase

#: What the harness puts behind a metric's name for how far it may be off.
_ERROR = "_stderr"


@dataclass(frozen=True)
class HarnessRow:
    """One model. `values`: metric to figure; `errors`: to its standard error, as the harness says."""

    name: str
    values: Mapping[str, float]
    errors: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class HarnessReport(Report):
    """`version`: of the package."""

    base: str
    task: str
    version: str
    rows: tuple[HarnessRow, ...]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def harness(
    base: Place,
    adapters: Several,
    task: str,
    folder: Path | None = None,
    *,
    batch: int = 8,
    limit: int | None = None,
    dtype: str = "auto",
    any_base: bool = False,
) -> HarnessReport:
    """The task called `task` for the bare base, each adapter and all of them.

    `folder`: where the task's file is, or the file; then nothing else is looked for, and nothing is loaded from a hub.
    `limit`: records, at most. Raises `MissingExtra` without lm-eval, `UsageError` for a task that is not there.
    """
    lm_eval = _library()
    manager = _manager(folder)
    if task not in manager.all_tasks:
        where = f"`{folder}`" if folder is not None else "lm-eval"
        raise UsageError(
            f"there is no task `{task}` in {where}", hint=f"it has {', '.join(sorted(manager.all_tasks)[:8])}"
        )
    root = resolve(base)
    named = by_name(several(adapters, least=0))
    given = {n: (opened(e.what, root.path), weighting.checked(e.weight, e.label)) for n, e in named.items()}
    require_named(root.path, [adapter for adapter, _ in given.values()], any_base)
    model, tokenizer = _model(root.path, dtype)
    rows = []
    for name, chosen in _choices(given).items():
        with stack(model, chosen):
            rows.append(_row(name, lm_eval, _wrapped(model, tokenizer, batch), task, manager, limit))
    return HarnessReport(root.given, task, str(lm_eval.__version__), tuple(rows))


def _choices(given: Mapping[str, Any]) -> dict[str, Any]:
    alone = {name: {name: pair} for name, pair in given.items()}
    return {BASE: {}, **alone, **({TOGETHER: given} if len(given) > 1 else {})}


def _library() -> ModuleType:
    try:
        import lm_eval
    except ImportError as error:
        raise MissingExtra("tasks of the evaluation harness need lm-eval", hint="`pip install lm-eval`") from error
    found: ModuleType = lm_eval
    return found


def _manager(folder: Path | None) -> TaskManager:
    from lm_eval import tasks

    if folder is None:
        return tasks.TaskManager()
    if not folder.exists():
        raise InputError(f"there is no `{folder}` with a task of lm-eval", hint="look at the path")
    return tasks.TaskManager(include_path=str(folder if folder.is_dir() else folder.parent), include_defaults=False)


def _model(base: Path, dtype: str) -> tuple[nn.Module, PreTrainedTokenizerBase]:
    transformers = quiet_transformers()
    tokenizer = explained(base, transformers.AutoTokenizer.from_pretrained)
    return model_at(base, transformers.AutoModelForCausalLM.from_pretrained, dtype=DTYPES[dtype]).eval(), tokenizer


def _wrapped(model: nn.Module, tokenizer: PreTrainedTokenizerBase, batch: int) -> HFLM:
    from lm_eval.models import huggingface

    return huggingface.HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch)


def _row(name: str, lm_eval: ModuleType, model: HFLM, task: str, manager: TaskManager, limit: int | None) -> HarnessRow:
    found = lm_eval.simple_evaluate(
        model=model,
        tasks=[task],
        task_manager=manager,
        limit=limit,
        bootstrap_iters=1000,
        log_samples=False,
        verbosity=None,
    )["results"][task]
    figures = {key.partition(",")[0]: value for key, value in found.items() if isinstance(value, float | int)}
    values = {key: float(value) for key, value in figures.items() if not key.endswith(_ERROR)}
    errors = {key.removesuffix(_ERROR): float(v) for key, v in figures.items() if key.endswith(_ERROR)}
    return HarnessRow(name, {k: v for k, v in values.items() if k not in _COUNTS}, errors)


_COUNTS: Sequence[str] = ("sample_len",)
