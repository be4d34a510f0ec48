"""Who is told how a training goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Point:
    """One of the curve: after `step` of `steps`. `speed`: tokens a second, None where none are counted."""

    step: int
    steps: int
    loss: float
    rate: float
    speed: float | None = None


@dataclass(frozen=True)
class About:
    """What will be trained, before it is. `memory`: bytes that it takes, by what for; {} where nobody knows."""

    base: str
    architecture: str
    task: str
    method: str
    config: Mapping[str, Any]
    data: Mapping[str, Any]
    steps: int
    batch: int
    accumulate: int
    rate: float
    schedule: str
    device: str
    dtype: str
    out: str
    parameters: int | None = None
    parameters_of_base: int | None = None
    targets: int | None = None
    memory: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {**self.__dict__}


class Watcher:
    """Is told, and says nothing."""

    def begins(self, about: About) -> None:
        """Before the first step."""

    def stepped(self, point: Point) -> None:
        """After each step that is recorded."""

    def measures(self, done: int, total: int, what: str) -> None:
        """While base or adapter are measured."""

    def noted(self, note: str) -> None:
        """Of what is right to know and stops nothing."""
