"""What is written for a server, and what is said of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.converting.drop import dropped
from adaptr.report import Report

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter


@dataclass(frozen=True)
class Served(Report):
    """What was written. `error`: relative, Frobenius, over all targets; 0 where nothing was cut. `flags`: what the
    server must be told.
    """

    source: str
    out: str
    server: str
    method: str
    rank: int
    targets: int
    error: float
    flags: str
    digest: str

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def served_of(adapter: Adapter, drop: Collection[int] | None, base: nn.Module | Path | None) -> Adapter:
    """`adapter`, without what it has in the layers to `drop` if some are said."""
    return adapter if drop is None else dropped(adapter, drop, base)


def said(server: str, rank: int | None, dtype: str | None, drop: Collection[int] | None) -> dict[str, Any]:
    """The arguments, for the lineage."""
    more = {**({"dtype": dtype} if dtype else {}), **({} if drop is None else {"drop": sorted(drop)})}
    return {"for": server, "rank": rank, **more}
