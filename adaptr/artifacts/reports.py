"""What of artifacts is said: what is here, what was sent, and what one is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from adaptr.report import Report


@dataclass(frozen=True)
class Artifact(Report):
    """An artifact that is here. `name`: in the store; `out`: where its files were written, if they were."""

    name: str
    digest: str
    reference: str
    size: int
    files: Mapping[str, int]
    annotations: Mapping[str, str]
    cached: bool = False
    moved_from: str = ""
    out: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Sent(Report):
    """What was pushed. `attachments`: signatures and the like that went along. `left`: files that did not, and why."""

    reference: str
    digest: str
    size: int
    uploaded: int
    skipped: int
    attachments: int
    left: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Known(Report):
    """What an artifact is, as far as its manifest and its adapter's header say."""

    reference: str
    digest: str
    revision: str
    kind: str
    method: str
    rank: str
    base: str
    targets: int
    tensors: int
    numbers: int
    license: str
    files: Mapping[str, int]
    annotations: Mapping[str, str]
    lineage: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
