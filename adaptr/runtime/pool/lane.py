"""A layer that serves each row of a batch its own adapter: a state without tensors that the class swap hosts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adaptr.adapter import Target
from adaptr.errors import UsageError
from adaptr.host.swap import State
from adaptr.view import View


@dataclass(frozen=True)
class Group:
    """Rows of about one rank. `rows`: which ones, None for all. `At` (n, in, R), `Bt` (n, R, out)."""

    rows: Tensor | None
    At: Tensor
    Bt: Tensor


@dataclass(frozen=True)
class Work:
    """What a layer does for the rows of one batch. `into`, `gain`, `shift` (n, 1, features), None for none."""

    path: str
    count: int
    groups: tuple[Group, ...] = ()
    into: Tensor | None = None
    gain: Tensor | None = None
    shift: Tensor | None = None

    def __call__(self, base: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if x.ndim < 3 or x.shape[0] != self.count:
            raise UsageError(
                f"the input of `{self.path}` has shape {tuple(x.shape)}, wanted ({self.count}, tokens, features): each "
                "row of the batch has its own adapter; give one name for each row, beams and repetitions included"
            )
        into = x.flatten(1, -2) if x.ndim > 3 else x
        given = into if self.into is None else into * self.into.to(into.dtype)
        y = base(given)
        if self.gain is not None:
            y = y * self.gain.to(y.dtype)
        if self.shift is not None:
            y = y + self.shift.to(y.dtype)
        for group in self.groups:
            y = _add(y, into, group)
        return y if x.ndim == 3 else y.reshape(*x.shape[:-1], y.shape[-1])


def _add(y: Tensor, x: Tensor, group: Group) -> Tensor:
    """y + B A x for the rows of a group; in the factors' dtype, rounded once."""
    if group.rows is not None:
        x = x.index_select(0, group.rows)
    hidden = torch.bmm(x.to(group.At.dtype), group.At)
    if group.rows is None and y.dtype is hidden.dtype:
        return y.baddbmm_(hidden, group.Bt)
    change = torch.bmm(hidden, group.Bt).to(y.dtype)
    return y.add_(change) if group.rows is None else y.index_add_(0, group.rows, change)


class _ByRow:
    """Stands where a hosted state has its method."""

    name = "pool"

    def config(self, values: Any) -> None:
        return None

    def check_weight(self, weight: float) -> None:
        return None

    def factors(self, cfg: Any) -> None:
        return None

    def view(self, base: View, p: Any, cfg: Any, weight: float) -> View:
        def call(x: Tensor) -> Tensor:
            found: Tensor = base(x) if p.work is None else p.work(base.call, x)
            return found

        return base.then(call=call)


class Lane(State):
    """A layer of a pool. `work`: for the batch that runs now; a copy of the model has none and is the bare model."""

    def __init__(self, target: Target) -> None:
        super().__init__(_ByRow(), target, {}, 1.0, trainable=False)
        self.set(None)

    def set(self, work: Work | None) -> None:
        self.__dict__["work"] = work

    @property
    def features(self) -> tuple[int, int]:
        """(in, out)."""
        return self.target.shape[1], self.target.shape[0]

    def __reduce_ex__(self, protocol: Any) -> Any:
        make, args, state = super().__reduce_ex__(protocol)
        return make, args, {**state, "work": None}
