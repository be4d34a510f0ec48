"""Several adapter files as one: the stack of them, written without a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptr.capabilities import STACK
from adaptr.composing import gather
from adaptr.format import digest, write
from adaptr.models.belonging import require_named
from adaptr.registry.local import here, path_of
from adaptr.runtime.names import names
from adaptr.sources.open import open_adapter, placed, reads


@dataclass(frozen=True)
class StackReport:
    """`adapters`: name, method, weight and weights digest of each, in the order in which they are applied."""

    out: str
    adapters: tuple[dict[str, Any], ...]
    bytes: int
    digest: str

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def stacked(
    adapters: Sequence[tuple[str | Path, float]],
    out: str | Path,
    *,
    base: Any = None,
    any_base: bool = False,
    force: bool = False,
) -> StackReport:
    """Write the adapters, (source, weight) each, to one file. Raises what `adaptr.composing.gather` does for
    some that don't go together.
    """
    place = placed(Path(out), force, reads(*(here(source) for source, _ in adapters), here(base)))
    base = path_of(base) if isinstance(base, str) else base
    named = names([source for source, _ in adapters])
    children = {name: open_adapter(path_of(source), base).adapter for name, source in named.items()}
    weights = dict(zip(named, (weight for _, weight in adapters), strict=True))
    if isinstance(base, Path):
        require_named(base, list(children.values()), any_base)
    made = gather.over(STACK, children, config={"weights": weights}, any_base=any_base).replace(
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
