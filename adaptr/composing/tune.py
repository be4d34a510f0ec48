"""What of a composition is to be found by measuring it, as a value. `adaptr.tuning` does the finding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adaptr.contract import settings
from adaptr.errors import UsageError


@dataclass(frozen=True)
class Tune:
    """`data`: a file of records; `task`, `columns`, `length`, `batch`: how it is read and measured. `hold_out`: the
    share of it that is looked at only afterwards. `trials`: measurements, at most. `over`: what is searched, each alone
    or with a range: `weights`, `weights=0..2`, `density=0.1..0.9`, `rank=4,8,16`, `strategy=linear,ties`.
    """

    data: str
    trials: int = 30
    over: list[str] = field(default_factory=lambda: ["weights"])
    hold_out: float = 0.5
    task: str = "auto"
    columns: dict[str, str] = field(default_factory=dict)
    length: int = 0
    batch: int = 8

    def __post_init__(self) -> None:
        if not self.data:
            raise UsageError("there is no data to measure on", hint="give a file of records: `--data FILE`")
        if self.trials < 1:
            raise UsageError("the number of trials", got=self.trials, want="at least 1")
        if not 0 <= self.hold_out < 1:
            raise UsageError("the share held out", got=self.hold_out, want="from 0 to below 1")
        if not self.over:
            raise UsageError("nothing is to be searched", hint="name `weights`, a field of the strategy, or `rank`")


def checked(values: Mapping[str, Any]) -> Tune:
    """The fields of a recipe file. Raises `UsageError`, `BadConfig` for fields that are unknown or of a wrong type."""
    if "data" not in values:
        raise UsageError("`tune` has no `data`", want="a file of records to measure on")
    found: Tune = settings.validated("`tune`", Tune, values)
    return found
