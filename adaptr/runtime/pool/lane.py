"""A layer that serves each row of a batch its own adapter: a state without tensors that the class swap hosts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor

from adaptr.adapter import Target
from adaptr.contract import Mount, View
from adaptr.errors import Unsupported, UsageError
from adaptr.host.state import State
from adaptr.precision import autocasts

W = TypeVar("W")


@dataclass(frozen=True)
class Group:
    """Rows of about one rank, which are behind each other. `At` (n, in, R), `Bt` (n, R, out)."""

    at: slice
    At: Tensor
    Bt: Tensor


@dataclass(frozen=True)
class Work:
    """What a layer does for the rows of one batch, sorted into groups: a group is then a slice, and costs two products.

    `order`: the row of the batch at each place, `back`: the place of each row; None where they are sorted as they come.
    `into`, `gain`, `shift` (n, 1, features) at their places, None for none.
    """

    path: str
    count: int
    order: Tensor | None = None
    back: Tensor | None = None
    groups: tuple[Group, ...] = ()
    into: Tensor | None = None
    gain: Tensor | None = None
    shift: Tensor | None = None

    def __call__(self, base: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if x.ndim != 3 or x.shape[0] != self.count:
            return self._reshaped(base, x)
        if self.order is not None:
            x = x.index_select(0, self.order)
        y = base(x if self.into is None else x * self.into.to(x.dtype))
        if self.gain is not None:
            y = y * self.gain.to(y.dtype)
        if self.shift is not None:
            y = y + self.shift.to(y.dtype)
        with torch.autocast(x.device.type, enabled=False) if autocasts(x.device.type) else nullcontext():
            for group in self.groups:
                _add(y[group.at], x[group.at], group)
        return y if self.back is None else y.index_select(0, self.back)

    def _reshaped(self, base: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if not self.groups and self.into is self.gain is self.shift is None:
            return base(x)  # no row has anything here, so it does not matter which row is where
        if x.ndim < 3 or x.shape[0] != self.count:
            raise UsageError(
                f"the input of `{self.path}`",
                verb="has",
                got=f"shape {tuple(x.shape)}",
                want=f"({self.count}, tokens, features): each row of the batch has its own adapter",
                hint="give one name for each row, beams and repetitions included",
            )
        y = self(base, x.flatten(1, -2))
        return y.reshape(*x.shape[:-1], y.shape[-1])


def _add(y: Tensor, x: Tensor, group: Group) -> None:
    """y += B A x for the rows of a group; in the factors' dtype, rounded once."""
    hidden = torch.bmm(x if x.dtype is group.At.dtype else x.to(group.At.dtype), group.At)
    if y.dtype is hidden.dtype:
        y.baddbmm_(hidden, group.Bt)
    else:
        y.add_(torch.bmm(hidden, group.Bt).to(y.dtype))


#: The pools whose rows are in force here: in this thread, task or copied context.
SERVED: ContextVar[tuple[object, ...]] = ContextVar("adaptr_served", default=())


class Standing:
    """Stands where a hosted state has its method."""

    name = "pool"

    def config(self, values: object) -> None:
        return None

    def check_weight(self, weight: float) -> None:
        return None

    def factors(self, cfg: object) -> None:
        return None


class _ByRow(Standing):
    def view(self, base: View, p: Any, cfg: object, weight: float) -> View:
        def call(x: Tensor) -> Tensor:
            if p.work is None:
                bare: Tensor = base(x)
                return bare
            require_inside(p)
            found: Tensor = p.work(base.call, x)
            return found

        def rows(s: slice) -> Tensor:
            if p.work is not None:
                raise Unsupported(
                    f"the weight of `{p.target.path}` is read, and each row of a batch has another one",
                    hint="serve these adapters one at a time, each attached",
                )
            return base.rows(s)

        return base.then(call=call, rows=rows)


def require_inside(lane: Lane[Any]) -> None:
    """Rows are for the forwards of the block that gave them, not for others that run at the same time."""
    if lane.owner not in SERVED.get():
        raise UsageError(
            f"`{lane.target.path}` serves a batch of rows for another thread or task, and this forward is not in it",
            hint="give it rows of its own by `pool.rows`, None where a row has no adapter, or run it in the "
            "context of that block (`contextvars.copy_context().run`, `asyncio.to_thread`)",
        )


class Lane(State, Generic[W]):
    """A module of a pool. `work`: for the batch that runs now; a copy of the model has none and is the bare model."""

    def __init__(self, method: object, target: Target, mount: Mount) -> None:
        super().__init__(method, target, mount, {}, 1.0, trainable=False)
        self.work: W | None
        self.owner: object
        self.set(None)

    def set(self, work: W | None, owner: object = None) -> None:
        """`owner`: the pool that is `SERVED` where the batch runs."""
        self.__dict__.update(work=work, owner=owner)

    @property
    def features(self) -> tuple[int, int]:
        """(in, out)."""
        return self.target.shape[1], self.target.shape[0]

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        make, args, state = cast("tuple[object, object, dict[str, object]]", super().__reduce_ex__(protocol))
        return make, args, {**state, "work": None, "owner": None}


class LayerLane(Lane[Work]):
    """A linear layer of a pool."""

    def __init__(self, target: Target) -> None:
        super().__init__(_ByRow(), target, Mount(target.path, "weight"))
