"""The usual ways in which a training fails, and how each is noticed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean

from adaptr.errors import Diverged

#: Points at the start that a loss is held against, and at the end that it is held by.
FIRST, LAST = 5, 10
#: How much above its start a loss that still rises is given up.
RISEN = 2.0
#: A loss that there is nothing to learn from below, in nats.
SOLVED = 0.01
#: As a share: a change of the loss that rounding alone makes.
ROUNDING = 1e-6


class Guard:
    """Looks at each point of the curve of losses. `half`: whether forwards are in fp16, whose numbers end early."""

    def __init__(self, half: bool = False) -> None:
        self.half = half
        self.losses: list[float] = []

    def look(self, step: int, loss: float, norm: float | None, rate: float, kept: str = "") -> None:
        """Raises `Diverged` where it is no number, or rises without end. `kept`: the checkpoint before, if any is."""
        self.losses.append(loss)
        hint = self._cause(rate) + (f"; `{kept}` is from before" if kept else "")
        if not math.isfinite(loss):
            raise Diverged(f"the loss at step {step}", got=loss, want="a finite number", hint=hint)
        if norm is not None and not math.isfinite(norm):
            raise Diverged(f"the norm of the gradient at step {step}", got=norm, want="a finite number", hint=hint)
        if self._rises():
            start, end = fmean(self.losses[:FIRST]), fmean(self.losses[-LAST:])
            raise Diverged(
                f"the loss rises without end: {start:.4g} at the start, {end:.4g} before step {step}", hint=hint
            )

    def _cause(self, rate: float) -> str:
        if self.half:
            return f"the likely cause is fp16, or the rate, {rate:g}: try `bf16` or `fp32`, or a tenth of the rate"
        return f"the likely cause is the rate, {rate:g}: try a tenth of it, or a `warmup`"

    def _rises(self) -> bool:
        if len(self.losses) < FIRST + 2 * LAST:
            return False
        start, last = fmean(self.losses[:FIRST]), self.losses[-LAST:]
        grows = fmean(last[LAST // 2 :]) > fmean(last[: LAST // 2]) > fmean(self.losses[-2 * LAST : -LAST])
        return grows and min(last) > RISEN * max(start, SOLVED)


def said(
    before: Mapping[str, float | None], after: Mapping[str, float | None], moved: Mapping[str, float]
) -> list[str]:
    """What there is to say of a training that went through: a sentence each."""
    start, end = before.get("loss"), after.get("loss")
    found = []
    if not any(moved.values()):
        found.append("nothing was learned: no tensor changed")
    elif start is not None and end is not None and abs(end - start) <= ROUNDING * abs(start):
        found.append("nothing was learned: the loss is as it was to within rounding; try a higher rate or more steps")
    if start is not None and start < SOLVED:
        found.append(f"the base solves this data already: its loss is {start:.4g}")
    if start is not None and end is not None and end > start * (1 + ROUNDING):
        found.append(f"the loss rose from {start:.4g} to {end:.4g}: the adapter is worse than the base on this data")
    return found
