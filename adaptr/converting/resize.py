"""The same delta in other factors: at another rank, or as another method. Exact where there is a way, else measured.

Everything happens on operators (`adaptr.changes.deltas`): what the tensors of a method are is its own business. Biases
and replaced parameters go along as they are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import foreign, plugins
from adaptr.adapter import Adapter, numel
from adaptr.algebra.core import Core
from adaptr.algebra.dense import Dense
from adaptr.algebra.operator import Operator
from adaptr.bulk import workers
from adaptr.changes.deltas import Deltas, deltas
from adaptr.checkpoint.open import open_checkpoint
from adaptr.contract.capabilities import BIAS, DENSE, LOW_RANK
from adaptr.converting.convert import placed_as
from adaptr.converting.exporting import exported
from adaptr.diffing.sides import solid
from adaptr.errors import BadConfig, NoDelta, NotPossible, Unsupported, UsageError
from adaptr.format import digest
from adaptr.format.finite import require_finite
from adaptr.format.io import write
from adaptr.precision import called, named
from adaptr.results import about, ranks, storing
from adaptr.results.assemble import assemble
from adaptr.results.ranks import Fitted, RankReport
from adaptr.results.storing import EXACT
from adaptr.sources.given import Given, one
from adaptr.sources.naming import of_opened
from adaptr.sources.open import Opened, open_adapter, reads
from adaptr.sources.resolve import Place, grounded

if TYPE_CHECKING:
    import torch
    from torch import nn


def resize(
    source: Given,
    out: str | os.PathLike[str],
    *,
    rank: int | None = None,
    energy: float | None = None,
    force: bool = False,
    base: nn.Module | Place | None = None,
    dtype: str | torch.dtype | None = None,
) -> RankReport:
    """Write the adapter at `source` to `out` as LoRA of at most `rank`, or of the ranks that keep a share `energy` of
    ‖D‖².

    The optimum in the Frobenius norm, target by target, stored in `dtype` (None: the wider of fp32 and the source), and
    the error is that of what is stored. Raises `BadConfig` for a rank that no target exceeds, as it
    would change nothing; `NoDelta` for what has no delta, a transform without `base` included.
    """
    require_size(rank, energy, needed=True)
    return _written(source, out, "adaptr", plugins.default(LOW_RANK), rank, energy, False, force, base, "resize", dtype)


def convert_method(
    source: Given,
    out: str | os.PathLike[str],
    method: str = "lora",
    to: str = "adaptr",
    *,
    rank: int | None = None,
    energy: float | None = None,
    lossy: bool = False,
    force: bool = False,
    base: nn.Module | Place | None = None,
    dtype: str | torch.dtype | None = None,
) -> RankReport:
    """Write the adapter at `source` to `out` as another method, in format `to`.

    `base`: where its change depends on the weights, and for the names of another tool's format. `lossy`: go on where
    that format can't hold everything; `force`: replace what is at `out`. `dtype`: what it is stored in, by name; None
    for the wider of fp32 and the source. Errors are of what is stored.

    Exact without `rank` and `energy`: raises `NotPossible` where there is no exact form. With one of them, the nearest
    of that rank, with the error measured. Raises `UnknownMethod`, `UsageError` for a rank where there is none,
    `Unsupported` for a method that no delta can be written as, and what `convert` does.
    """
    forms = plugins.method(method).can.forms - {BIAS}
    if plugins.method(method).supplies("alike"):
        if rank is not None or energy is not None:
            raise UsageError(f"what `{method}` is made of has no rank", hint="leave out `--rank` and `--energy`")
        return _written(source, out, to, method, None, None, lossy, force, base, "convert", dtype)
    if not forms:
        raise Unsupported(
            f"no delta can be written as `{method}`: its tensors don't follow from what they do",
            hint=f"possible: {', '.join(f'`{plugins.default(form)}`' for form in (LOW_RANK, DENSE))}",
        )
    require_size(rank, energy, needed=False)
    if LOW_RANK not in forms and (rank is not None or energy is not None):
        raise UsageError("a full delta has no rank", hint="leave out `--rank` and `--energy`")
    return _written(source, out, to, method, rank, energy, lossy, force, base, "convert", dtype)


def require_size(rank: int | None, energy: float | None, needed: bool) -> None:
    """Raises `BadConfig` for a rank below 1 or an energy outside (0, 1], `UsageError` where one is needed."""
    if needed and rank is None and energy is None:
        raise UsageError(
            "nothing says how small",
            hint="give `--rank R`, or `--energy E` for the ranks that keep that share of the change",
        )
    if rank is not None and rank < 1:
        raise BadConfig("`rank`", got=rank, want="at least 1")
    if energy is not None and not 0 < energy <= 1:
        raise BadConfig("`energy`", got=energy, want="a share above 0 and up to 1")


def _written(
    source: Given,
    out: str | os.PathLike[str],
    to: str,
    method: str,
    rank: int | None,
    energy: float | None,
    lossy: bool,
    force: bool,
    base: nn.Module | Place | None,
    operation: str,
    dtype: str | torch.dtype | None,
) -> RankReport:
    started = time.perf_counter()
    what, stored_as = one(source), named(dtype)
    format_of = None if to == foreign.OWN else foreign.get(to)
    out = placed_as(format_of, out, force, reads(what, base))
    base = grounded(base)
    found = open_adapter(what, base)
    require_finite(found.adapter, found.given)
    asked = {"method": method, "rank": rank, "energy": energy, "dtype": called(dtype)}
    asked |= {"to": to} if operation == "convert" else {}
    arguments = {key: value for key, value in asked.items() if value is not None}
    made, fitted = _made(found, method, rank, energy, base, operation, stored_as)
    made = made.replace(lineage={"operation": operation, "arguments": arguments, "parents": [of_opened(found)]})
    lost: tuple[str, ...] = ()
    if format_of is None:
        file = write(made, out, force)
    else:
        written = format_of.write(exported(made, base), out, lossy, force)
        file, lost = written.file, written.lost
    error = ranks.total_error(fitted)
    return RankReport(
        source=found.given,
        out=str(out),
        format=to,
        method_before=found.adapter.method,
        method=made.method,
        targets=len(made.targets),
        exact=error < EXACT,
        error=error,
        worst=ranks.worst(fitted) if error >= EXACT else (),
        ranks=ranks.ranks(fitted) if LOW_RANK in plugins.method(method).can.forms else {},
        numbers_before=_numbers(found.adapter),
        numbers=_numbers(made),
        biases=sum(key.endswith(":b") for key in made.tensors),
        replaced=tuple(made.replaced),
        lost=lost,
        digest=digest.of_file(file),
        seconds=time.perf_counter() - started,
    )


def _numbers(adapter: Adapter) -> int:
    shape = getattr(adapter.tensors, "shape", lambda key: tuple(adapter.tensors[key].shape))
    return numel(shape(key) for key in adapter.tensors)


def _made(
    found: Opened,
    method: str,
    rank: int | None,
    energy: float | None,
    base: object,
    operation: str,
    dtype: torch.dtype | None,
) -> tuple[Adapter, list[Fitted]]:
    adapter = found.adapter
    if plugins.method(method).supplies("alike"):
        return _alike(adapter, method, dtype), []
    changes = deltas_of(adapter, base)
    if operation == "resize":
        _require_smaller(changes, rank)

    dense = LOW_RANK not in plugins.method(method).can.forms

    def one(path: str) -> tuple[Operator, Fitted]:
        op = solid(changes[path])
        made, error = (Dense(op.dense(), experts=op.experts), 0.0) if dense else lowered(op, rank, energy, path)
        return made, Fitted(path, made.rank, op.norm(), error)

    paths = list(changes)
    results = workers.run(one, paths)
    operators = {path: results[i][0] for i, path in enumerate(paths)}
    made = assemble(
        operators,
        changes.targets,
        biases=changes.biases,
        replaced=changes.replaced,
        base=adapter.base,
        name=adapter.name,
        dtype=dtype,
        method=method if operators else None,
    )
    fitted = [storing.measured(results[i][1], operators[path], made, dtype) for i, path in enumerate(paths)]
    return made.replace(**about.kept(adapter)), fitted


def _alike(adapter: Adapter, method: str, dtype: torch.dtype | None) -> Adapter:
    """`adapter` as another method that can do the same without any delta."""
    made = plugins.method(method).alike(adapter)
    if made is None:
        raise Unsupported(
            f"`{adapter.method}` does not do what a `{method}` can do",
            hint=f"only what is of the family `{plugins.method(method).family}` and at the same places can be one",
        )
    return made if dtype is None else made.replace(tensors={key: t.to(dtype) for key, t in made.tensors.items()})


def deltas_of(adapter: Adapter, base: Any = None) -> Deltas:
    """The deltas of an adapter, against `base` (a folder or a live model) only where its method needs one."""
    try:
        return deltas(adapter)
    except NoDelta:
        if base is None:
            raise
        return deltas(adapter, open_checkpoint(base) if isinstance(base, str | Path) else base)


def lowered(op: Operator, rank: int | None, energy: float | None, path: str) -> tuple[Operator, float]:
    """`op` as factors of that rank or energy, exactly itself where neither is given; and the relative error of it."""
    if rank is not None or energy is not None:
        return op.truncate(rank, energy)
    try:
        low = op.low_rank()
    except NotPossible as error:
        raise NotPossible(f"`{path}`: {error.fact}", hint="give `--rank R` or `--energy E`") from None
    if low.A.shape[1 if low.experts else 0] <= min(op.size):
        return low, 0.0
    core = Core.of([low])  # more terms than the matrix has rows or columns: as many are enough
    return core.truncate(core.cores[0], rank=min(op.size))


def _require_smaller(changes: Mapping[str, Operator], rank: int | None) -> None:
    if rank is None or not changes:
        return
    highest = max(changes[path].rank for path in changes)
    if rank >= highest:
        raise BadConfig(
            "`rank`", got=rank, want=f"less than {highest}, the highest of any target: nothing would become smaller"
        )
