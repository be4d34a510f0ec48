"""Several adapter files as one: the stack of them, written without a model."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.adapter import weighting
from adaptr.composing import gather
from adaptr.contract.capabilities import STACK
from adaptr.format import digest, write
from adaptr.models.belonging import require_named
from adaptr.report import Report
from adaptr.sources.given import Several, by_name, opened, several
from adaptr.sources.open import placed, reads
from adaptr.sources.resolve import Place, grounded

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class StackReport(Report):
    """`adapters`: name, method, weight and weights digest of each, in the order in which they are applied."""

    out: str
    adapters: tuple[dict[str, Any], ...]
    bytes: int
    digest: str

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def stacked(
    adapters: Several,
    out: str | os.PathLike[str],
    *,
    base: nn.Module | Place | None = None,
    any_base: bool = False,
    force: bool = False,
) -> StackReport:
    """Write the adapters, each at its weight, to one file. Raises what `adaptr.composing.gather` does for
    some that don't go together.
    """
    given = by_name(several(adapters))
    place = placed(out, force, reads(*(each.what for each in given.values()), base))
    base = grounded(base)
    children = {name: opened(each.what, base) for name, each in given.items()}
    weights = {name: weighting.checked(each.weight, each.label) for name, each in given.items()}
    if isinstance(base, Path):
        require_named(base, list(children.values()), any_base)
    made = gather.over(plugins.default(STACK), children, config={"weights": weights}, any_base=any_base).replace(
        name=Path(out).name.split(".")[0]
    )
    file = write(made, place, force)
    rows = ((name, part.method, weights[name], part.digest) for name, part in made.parts.items())
    return StackReport(
        out=str(file),
        adapters=tuple(dict(zip(("name", "method", "weight", "digest"), row, strict=True)) for row in rows),
        bytes=file.stat().st_size,
        digest=digest.of_file(file),
    )
