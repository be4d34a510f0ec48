"""What packing again lost of a merge, as a small LoRA to attach: packed base + it = the intended weights, but for a
measured error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from adaptr.algebra.difference import Difference
from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.truncate import truncated
from adaptr.bulk import workers
from adaptr.bulk.blocks import Weight
from adaptr.bulk.change import Change, Plan, Span
from adaptr.checkpoint.open import open_checkpoint
from adaptr.checkpoint.reading import reading
from adaptr.checkpoint.stored import Stored
from adaptr.contract import View
from adaptr.format import write
from adaptr.merging import placing, receipt
from adaptr.merging.fate import Fate
from adaptr.merging.unpacked import Compensated, changed
from adaptr.results.assemble import assemble

if TYPE_CHECKING:
    from torch import Tensor

#: Beside the receipt: some servers take every safetensors file of a model's own folder for weights.
FILE = "compensation.safetensors"


def compensate(
    folder: Path, todo: Plan, fates: Mapping[str, Fate], rank: int, named: Sequence[Mapping[str, Any]]
) -> Compensated:
    """Write the adapter of a merged checkpoint in `folder`, whose parents are `named` as the receipt has them."""
    made = open_checkpoint(placing.made_in(folder)).tensors
    jobs = [(change, span, made[name]) for name, (change, _) in changed(todo).items() for span in change.spans]
    found = workers.run(lambda job: _lost(*job, rank), jobs)
    operators = {jobs[number][1].target.path: found[number][0] for number in range(len(jobs))}
    targets = {span.target.path: span.target for _, span, _ in jobs}
    parents = [{"role": "merged", "format": "adaptr", "digest": one["digest"]} for one in named]
    adapter = assemble(operators, targets, name="compensation", lineage={"operation": "merge", "parents": parents})
    path = folder / receipt.FOLDER / FILE
    write(adapter, path, force=True)
    rest = sum(square for _, square in found.values())
    change = sum(fate.change for fate in fates.values())
    return Compensated(
        f"{receipt.FOLDER}/{FILE}", rank, math.sqrt(rest / change) if change else 0.0, path.stat().st_size
    )


def _lost(change: Change, span: Span, made: Stored, rank: int) -> tuple[LowRank, float]:
    """What the packed weight lacks at a target, at a rank, and the square of what that leaves out."""
    assert change.stored is not None
    with reading(change.stored) as before, reading(made) as after:
        weight, now = Weight(span, before(span.rows)), after(span.rows)

        def logical(rows: Tensor) -> Tensor:
            return (rows.transpose(1, 2) if weight.turned else rows).float()

        wanted = View(_uncallable, lambda s: logical(weight.merged(s)))
        packed = View(_uncallable, lambda s: logical(now.read(s)))
        rowwise = all(layer.by_rows for layer in span.layers)
        op = Difference(packed, wanted, span.target.shape, experts=span.target.stacked, rowwise=rowwise)
        low, error, square = truncated(op, min(rank, *op.size), None)
    return low, error**2 * square


def _uncallable(*_: object) -> NoReturn:
    raise AssertionError("a weight read from a checkpoint has no forward")
