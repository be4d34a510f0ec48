"""What was written for a server."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from adaptr.report import Report


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
