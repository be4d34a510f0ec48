"""Places in a model, which are no layers, where each row of a batch has an adapter of its own.

The rows of one adapter are gathered, what it makes of them is computed for these alone, by its method's own formula,
and they are put back. Rows without an adapter there are not touched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from adaptr.adapter import Target, kinds
from adaptr.adapter.tensors import Tensors
from adaptr.contract import Mount
from adaptr.errors import Unsupported, UsageError
from adaptr.families.row import Apart, Step
from adaptr.host.attach import called, reading
from adaptr.precision import at_least
from adaptr.runtime.pool.lane import Lane, Standing, require_inside

if TYPE_CHECKING:
    from adaptr.runtime.pool.pages import Pages
    from adaptr.runtime.pool.residents import Key, Resident
    from adaptr.sites.output import Here

SLOT = "adaptr-pool-output"


@dataclass(frozen=True)
class AtPlace:
    """What a place does for the rows of one batch: for each adapter there, its rows and its steps."""

    path: str
    count: int
    parts: tuple[tuple[Tensor, Apart], ...]

    def made(self, h: Tensor, lane: PlaceLane, inputs: Mapping[str, Tensor]) -> Tensor:
        y = h
        for at, apart in self.parts:
            own = self._of(h, at)
            for step in apart.steps:
                read = self._of(inputs[next(iter(step.mount.reads), self.path)], at)
                own = _made(own, read, step, lane)
            y = y.index_copy(0, at, own)
        return y

    def _of(self, x: Tensor, at: Tensor) -> Tensor:
        if x.ndim < 3 or len(x) != self.count:
            raise UsageError(
                f"what `{self.path}` puts out or reads",
                verb="has",
                got=f"shape {tuple(x.shape)}",
                want=f"({self.count}, tokens, features): each row of the batch has its own adapter",
                hint="give one name for each row, beams and repetitions included",
            )
        return x.index_select(0, at)


def _made(h: Tensor, x: Tensor, step: Step, lane: PlaceLane) -> Tensor:
    """In at least the adapter's precision, rounded once."""
    dtype = next((t.dtype for t in step.tensors.values() if t.is_floating_point()), h.dtype)
    inner = at_least(h, dtype)
    tensors = {name: at_least(t, inner.dtype) if t.is_floating_point() else t for name, t in step.tensors.items()}
    y = step.output(inner, x.to(inner.dtype), Own(tensors, lane))
    return (y if step.weight == 1.0 else inner + step.weight * (y - inner)).to(h.dtype)


class Own(Tensors):
    """The tensors of one adapter at a place, whose formula may call the base's norm."""

    def __init__(self, tensors: Mapping[str, Tensor], lane: PlaceLane) -> None:
        super().__init__(tensors)
        self.lane = lane

    def call(self, path: str, x: Tensor) -> Tensor:
        return self.lane.call(path, x)

    @property
    def place(self) -> str:
        return self.lane.place


class _ByRow(Standing):
    def output(self, h: Tensor, x: Tensor, p: Here, cfg: object) -> Tensor:
        lane = cast(PlaceLane, p.state)
        if lane.work is None:
            return h
        require_inside(lane)
        return lane.work.made(h, lane, p.inputs)

    def refusal(self) -> Unsupported:
        return Unsupported(
            "a weight is read whose output is another one for each row of a batch",
            hint="serve these adapters one at a time, each attached",
        )


class PlaceLane(Lane[AtPlace]):
    """A place of a pool. What it reads and calls grows with the adapters that come."""

    def __init__(self, model: nn.Module, path: str) -> None:
        super().__init__(_ByRow(), Target(path, kinds.PLACE, ()), Mount(path, "output"))
        self.__dict__["undo"] = [self.site.mount(model, SLOT, self)]
        self._read(model, path)

    def needs(self, model: nn.Module, mount: Mount) -> None:
        """Read and call what an adapter's mount there says."""
        for path in mount.reads:
            self._read(model, path)
        self.calls.update((path, called(model, path)) for path in mount.calls if path not in self.calls)

    def _read(self, model: nn.Module, path: str) -> None:
        if path not in self.reads:
            self.__dict__["undo"].append(reading(model, self, path))

    def off(self) -> None:
        for step in reversed(self.__dict__["undo"]):
            step()


class Places:
    """The places of one pool, and what they do for the batch that ran last."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.lanes: dict[str, PlaceLane] = {}
        self._rows: tuple[Key | None, ...] = ()
        self._works: dict[str, AtPlace] = {}

    def host(self, apart: Mapping[str, Apart]) -> None:
        """Let these places serve rows."""
        for path, one in apart.items():
            if path not in self.lanes:
                self.lanes[path] = PlaceLane(self.model, path)
            for step in one.steps:
                self.lanes[path].needs(self.model, step.mount)

    def works(self, rows: tuple[Key | None, ...], held: Mapping[Key, Resident], pages: Pages) -> Mapping[str, AtPlace]:
        """What each place does for a batch whose rows are these adapters, or none."""
        if rows != self._rows or self.lanes.keys() != self._works.keys():
            where: dict[Key, list[int]] = defaultdict(list)
            for i, key in enumerate(rows):
                if key is not None and held[key].places:
                    where[key].append(i)
            with torch.inference_mode(False), torch.no_grad():  # the next forward may be one with gradients
                found = [
                    (torch.tensor(at, device=pages.data.device), held[key].placed(pages.data))
                    for key, at in where.items()
                ]
            self._works = {
                path: AtPlace(path, len(rows), tuple((at, of[path]) for at, of in found if path in of))
                for path in self.lanes
            }
            self._rows = rows
        return self._works

    def serve(self, works: Mapping[str, AtPlace], owner: object) -> None:
        for path, lane in self.lanes.items():
            work = works.get(path)
            lane.set(work if work is not None and work.parts else None, owner)

    def off(self) -> None:
        for lane in self.lanes.values():
            lane.off()
        self.lanes, self._works = {}, {}
