"""A method inside a composite adapter, whose tensors are keyed `<target>:<part>.<param>`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adaptr.adapter.target import Target


@dataclass(frozen=True)
class Part:
    """One method inside a composite adapter.

    `digest`: of the weights of the adapter that it was on its own, checked when the file is loaded. `content`: of the
    base at its targets. Both are "" where the part never was an adapter of its own.
    """

    method: str
    version: int
    config: Mapping[str, Any]
    targets: Mapping[str, Target]
    digest: str = ""
    content: str = ""
