"""An adapter without some of its layers: what AdapterDrop does for good, to an adapter of any method.

What is left does what it did, and what is gone is not there: no tensors, and in a live model nothing at those modules.
"""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.adapter import Adapter, numel
from adaptr.adapter.weighting import Layers
from adaptr.checkpoint.open import Checkpoint, open_checkpoint
from adaptr.converting.convert import placed_as
from adaptr.errors import BadConfig, Unsupported, UsageError, shown
from adaptr.format import digest
from adaptr.format.finite import require_finite
from adaptr.format.io import write
from adaptr.report import Report
from adaptr.sources.given import Given, one
from adaptr.sources.naming import of_opened
from adaptr.sources.open import open_adapter, reads
from adaptr.sources.resolve import Place, grounded

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class DropReport(Report):
    """What `drop` did. `layers`: the numbers that are gone; `left`: those where something is. `targets`, `numbers`:
    left and before. `known`: whether the file knows the weights of its base.
    """

    source: str
    out: str
    method: str
    layers: tuple[int, ...]
    left: tuple[int, ...]
    targets: int
    targets_before: int
    numbers: int
    numbers_before: int
    known: bool
    digest: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def drop(
    source: Given,
    out: str | os.PathLike[str],
    layers: str | Iterable[int],
    *,
    force: bool = False,
    base: nn.Module | Place | None = None,
) -> DropReport:
    """Write the adapter at `source` to `out` without what it has in `layers`, such as "0-4" or [0, 1, 5], of each
    stack.

    What is in no layer stays, and so do parameters that are replaced as a whole. `base`: the model it is for, where it
    knows the weights of its targets: without it the result knows them no more, and is taken on any of the same shapes.
    Raises `BadConfig` where it has nothing in one of the layers, or in no other; `Unsupported` for what can't be
    without some of its layers; `ContentMismatch` for a `base` of other weights than it was trained on.
    """
    started = time.perf_counter()
    what, gone = one(source), numbered(layers)
    out = placed_as(None, out, force, reads(what, base))
    base = grounded(base)
    found = open_adapter(what, base)
    require_finite(found.adapter, found.given)
    before = found.adapter
    made = dropped(before, gone, base)
    arguments = {"layers": sorted(gone)}
    made = made.replace(lineage={"operation": "drop", "arguments": arguments, "parents": [of_opened(found)]})
    file = write(made, out, force)
    return DropReport(
        source=found.given,
        out=str(out),
        method=made.method,
        layers=tuple(sorted(gone)),
        left=tuple(sorted(_having(made))),
        targets=len(made.all_targets),
        targets_before=len(before.all_targets),
        numbers=_numbers(made),
        numbers_before=_numbers(before),
        known=bool(made.base.content),
        digest=digest.of_file(file),
        seconds=time.perf_counter() - started,
    )


def dropped(adapter: Adapter, layers: Iterable[int], base: nn.Module | str | Path | None) -> Adapter:
    """`adapter` with nothing in these layers of each stack, for `base`, whose weights it knows where there is one."""
    made = without(adapter, layers)
    return made.replace(base=dataclasses.replace(made.base, content=_content(adapter, made, base)))


def without(adapter: Adapter, layers: Iterable[int]) -> Adapter:
    """`adapter` with nothing in these layers of each stack. Raises as `drop` does."""
    gone, there = set(layers), _having(adapter)
    _require_apart(adapter)
    if missing := sorted(gone - there):
        raise BadConfig(
            f"`{adapter.label}`: the layers to drop",
            verb="are",
            got=ranges(missing),
            want=f"some of those that it is in: {ranges(there)}" if there else "none, as it is in no layer",
        )
    if not there - gone:
        raise BadConfig(
            f"`{adapter.label}`: the layers to drop", verb="are", got="all", want="fewer, so that some stay"
        )
    numbers = Layers(path for path, _ in _places(adapter))
    left = _kept(adapter, {path for path, _ in _places(adapter) if numbers.number(path) in gone})
    bare = next((name for name in left.parts if not left.part(name).all_targets), None)
    if bare is not None:
        raise Unsupported(
            f"nothing would be left of `{bare}`, a part of `{adapter.method}`", hint="drop fewer layers of it"
        )
    return left


def _kept(adapter: Adapter, gone: set[str]) -> Adapter:
    """Without the targets at these paths, of its parts too."""
    parts = {name: _kept(adapter.part(name), gone) for name in adapter.parts}
    targets = {path: target for path, target in adapter.targets.items() if path not in gone}
    tensors = {key: t for key, t in adapter.tensors.items() if key.endswith(":=") or key.rpartition(":")[0] not in gone}
    made = adapter.replace(targets=targets, tensors=tensors) if adapter.targets else adapter
    return made.with_parts(parts) if parts else made


def _places(adapter: Adapter) -> list[tuple[str, int | None]]:
    layers = Layers(target.path for _, target in adapter.all_targets)
    return [(target.path, layers.number(target.path)) for _, target in adapter.all_targets]


def _having(adapter: Adapter) -> set[int]:
    """The layers that it is in."""
    return {number for _, number in _places(adapter) if number is not None}


def _require_apart(adapter: Adapter) -> None:
    """Raises `Unsupported` where what it does in a layer is for others: a gate's experts, a ladder's rungs."""
    for each in (adapter, *map(adapter.part, adapter.parts)):
        method = plugins.method(each.method)
        if method.supplies("tap") or method.can.gates or method.can.needs:
            raise Unsupported(
                f"`{each.method}` goes from layer to layer, or over other adapters, and is not without some of them",
                hint="create it on fewer layers, or drop those of the adapters that it is made of",
            )


def _content(before: Adapter, made: Adapter, base: nn.Module | str | Path | None) -> str:
    """Of the weights at what is left; "" where it knew none, or there is no base to read them of. Raises
    `ContentMismatch` for a base of other weights.
    """
    if not made.base.content or base is None:
        return ""
    from adaptr.models import weights

    ground = open_checkpoint(base) if isinstance(base, str | Path) else base
    weights.of(ground, before)  # which looks whether they are the right ones
    if not isinstance(ground, Checkpoint):
        from adaptr.host.identity import content_of

        return content_of(ground, made.targets)
    from adaptr.checkpoint.names import Names
    from adaptr.models.content import content_in_files

    return content_in_files(Names(ground), made.targets)


def numbered(layers: str | Iterable[int]) -> set[int]:
    """`0-4,7` as numbers. Raises `UsageError`."""
    found = _spelt(layers) if isinstance(layers, str) else list(layers) if isinstance(layers, Iterable) else []
    if not found or any(isinstance(number, bool) or not isinstance(number, Integral) for number in found):
        want = "numbers and ranges, such as `0-4` or `0,2,5-7`"
        raise UsageError("the layers", verb="are", got=f"`{shown(layers)}`", want=want)
    return {int(number) for number in found}


def _spelt(layers: str) -> list[int]:
    """Nothing for what is no such text."""
    found: list[int] = []
    for part in layers.split(","):
        ends = re.fullmatch(r"\s*(\d{1,6})(?:\s*-\s*(\d{1,6}))?\s*", part, re.ASCII)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if first > last:
            return []
        found += range(first, last + 1)
    return found


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as `numbered` reads them."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _numbers(adapter: Adapter) -> int:
    shape = getattr(adapter.tensors, "shape", lambda key: tuple(adapter.tensors[key].shape))
    return numel(shape(key) for key in adapter.tensors)
