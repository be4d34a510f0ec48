"""What a training was and what it is worth, as a value: for programs, for people, and for the page with pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adaptr.adapter import Adapter


@dataclass(frozen=True)
class Curves:
    """Points of one length: at which step; mean loss since the point before; learning rate; norm of the gradient before
    it was clipped; tokens a second. `measured`: (step, loss on the validation data).
    """

    steps: tuple[int, ...] = ()
    loss: tuple[float, ...] = ()
    rate: tuple[float, ...] = ()
    norm: tuple[float | None, ...] = ()
    speed: tuple[float | None, ...] = ()
    measured: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Sample:
    """What base and adapter answer to a record. `place`: `file:line`."""

    place: str
    asked: str
    wanted: str
    before: str
    after: str


@dataclass(frozen=True)
class TrainingReport:
    """One training.

    `recipe`: in its resolved form, whose digest is `recipe_digest`; `data`: digests by what the data was for.
    `parameters`: numbers that learned. `moved`: by target, the norm of what its tensors changed by. `before`, `after`:
    figures of the base and of the adapter on `measured_on` records, which were learned from where there was no
    validation data (`held_out` False); `second_before`, `second_after`: on the second text. `command`: to do it again.
    """

    out: str
    adapter: Adapter = field(repr=False)
    base: str
    architecture: str
    method: str
    task: str
    device: str
    dtype: str
    processes: int
    recipe: Mapping[str, Any]
    recipe_digest: str
    data: Mapping[str, str]
    versions: Mapping[str, str]
    parameters: int
    parameters_of_base: int
    targets: int
    steps: int
    tokens: int
    curves: Curves
    moved: Mapping[str, float]
    before: Mapping[str, float | None]
    after: Mapping[str, float | None]
    measured_on: int
    held_out: bool
    second_before: Mapping[str, float | None]
    second_after: Mapping[str, float | None]
    samples: tuple[Sample, ...]
    statistics: Mapping[str, Any]
    notes: tuple[str, ...]
    command: str
    bytes: int
    digest: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """All but the adapter itself."""
        parts = {one.name: getattr(self, one.name) for one in dataclasses.fields(self) if one.name != "adapter"}
        return {name: _plain(value) for name, value in parts.items()}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return dict(value) if isinstance(value, Mapping) else value
