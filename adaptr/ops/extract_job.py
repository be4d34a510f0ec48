"""Two checkpoints read once, side by side: every tensor compared, hashed, and turned into what an adapter holds."""

from __future__ import annotations

import hashlib
import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr.adapter import Target
from adaptr.algebra.dense import Dense
from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.truncate import truncated
from adaptr.checkpoint.open import Checkpoint, Stored
from adaptr.checkpoint.stream import Rows
from adaptr.errors import NonFinite, NothingChanged
from adaptr.format.io import raw_bytes
from adaptr.meter import Meter, Progress
from adaptr.ops import workers
from adaptr.ops.blocks import working
from adaptr.ops.change import FLOATS
from adaptr.ops.layers import Layers
from adaptr.ops.rank_report import Fitted
from adaptr.view import ALL

if TYPE_CHECKING:
    from torch import Tensor

Embeddings = Literal["low-rank", "replace", "drop"]
Biases = Literal["delta", "replace", "drop"]
Rest = Literal["replace", "drop"]


@dataclass(frozen=True)
class Choice:
    """What becomes of tables, biases of targets, and everything else that changed."""

    embeddings: Embeddings
    biases: Biases
    rest: Rest


@dataclass
class Found:
    """What the adapter will hold."""

    operators: dict[str, LowRank]
    fitted: list[Fitted]
    biases: dict[str, Tensor]
    replaced: dict[str, Tensor]
    dropped: list[str]
    tables: list[str]
    twins: bool = False


class Job:
    """Every tensor of both checkpoints, read once: compared, hashed, and turned into what the adapter holds."""

    def __init__(
        self,
        base: Checkpoint,
        tuned: Checkpoint,
        found: Layers,
        rank: int | None,
        energy: float | None,
        choice: Choice,
        progress: Progress | None,
    ) -> None:
        self.base, self.tuned, self.choice = base, tuned, choice
        self.weights, self.twins = found.weights, found.twins
        self.rank, self.energy = rank, energy
        self.meter = Meter(base.nbytes + tuned.nbytes, "extracting", progress)
        self.reading = self.svd = 0.0
        self.unchanged = 0
        self._lock = threading.Lock()
        self._digests: tuple[dict[str, str], dict[str, str]] = ({}, {})
        self._found = Found({}, [], {}, {}, [], [])

    def run(self) -> Found:
        """Raises `NothingChanged` if every tensor is as in the base."""
        names = sorted(self.tuned.tensors, key=lambda name: (-self.tuned.tensors[name].entry.nbytes, name))
        workers.run(self._one, names)
        found = self._found
        if self.unchanged == len(names):
            raise NothingChanged(
                f"`{self.tuned.root}` equals `{self.base.root}`: all {len(names)} tensors are the same"
            )
        if not (found.operators or found.biases or found.replaced):
            raise NothingChanged(f"all that changed is to be dropped: {', '.join(sorted(found.dropped)[:3])}")
        found.fitted.sort(key=lambda fitted: fitted.path)
        found.dropped.sort()
        return found

    def parent(self, role: str, side: int) -> dict[str, Any]:
        """A checkpoint as a lineage names it: a digest over name, dtype, shape and digest of every tensor."""
        lines = hashlib.sha256()
        checkpoint = (self.base, self.tuned)[side]
        for name, sha in sorted(self._digests[side].items()):
            entry = checkpoint.tensors[name].entry
            lines.update(f"{name}\0{entry.dtype}\0{','.join(map(str, entry.shape))}\0{sha}\n".encode())
        return {"role": role, "format": "checkpoint", "digest": "sha256:" + lines.hexdigest()}

    def _one(self, name: str) -> None:
        started = time.perf_counter()
        after, sha = self._read(self.tuned.tensors[name], 1)
        before, same = None, False
        if name in self.base.tensors:
            before, old = self._read(self.base.tensors[name], 0)
            same = old == sha and before.dtype == after.dtype and before.shape == after.shape
        with self._lock:
            self.reading += time.perf_counter() - started
            self.unchanged += same
        if not same:
            self._changed(name, before, after)

    def _read(self, stored: Stored, side: int) -> tuple[Tensor, str]:
        count = stored.entry.shape[0] if stored.entry.shape else 1
        with open(stored.shard.path, "rb") as file:
            found = Rows(stored, file.fileno(), slice(0, count)).read(ALL).reshape(stored.entry.shape)
        sha = hashlib.sha256(raw_bytes(found)).hexdigest()
        with self._lock:
            self._digests[side][stored.name] = sha
        self.meter.add(stored.entry.nbytes)
        return found, sha

    def _changed(self, name: str, before: Tensor | None, after: Tensor) -> None:
        """Sort a tensor that is not the base's into what becomes of it."""
        import torch

        if after.is_floating_point() and not bool(torch.isfinite(after.sum(dtype=torch.float64))):
            raise NonFinite(f"`{name}` in `{self.tuned.root}` holds NaN or infinity")
        target, choice = self.weights.get(name), self.choice
        fits = before is not None and before.shape == after.shape and self.tuned.tensors[name].entry.dtype in FLOATS
        table = target is not None and target.kind == "embedding"
        if before is not None and target is not None and fits and (not table or choice.embeddings == "low-rank"):
            self._fit(name, target, before, after)
        elif before is not None and (owner := self._owner(name)) is not None and fits:
            self._bias(name, owner, before, after)
        else:
            kept = choice.embeddings != "drop" if table else choice.rest == "replace"
            self._keep(name, after, kept)

    def _owner(self, name: str) -> Target | None:
        """The target whose bias a tensor is."""
        return self.weights.get(f"{name.removesuffix('.bias')}.weight") if name.endswith(".bias") else None

    def _bias(self, name: str, owner: Target, before: Tensor, after: Tensor) -> None:
        if self.choice.biases != "delta":
            self._keep(name, after, self.choice.biases == "replace")
            return
        with self._lock:
            self._found.biases[owner.path] = after.to(working(after.dtype)) - before.to(working(before.dtype))

    def _keep(self, name: str, value: Tensor, kept: bool) -> None:
        with self._lock:
            if kept:
                others = [f"{twin.path}.weight" for twin in self.twins.get(name, ())]
                self._found.replaced |= dict.fromkeys((name, *others), value)
                self._found.twins |= bool(others)
            else:
                self._found.dropped.append(name)

    def _fit(self, name: str, target: Target, before: Tensor, after: Tensor) -> None:
        started = time.perf_counter()
        work = working(after.dtype)
        D = after.to(work).sub_(before.to(work)) if after.dtype != work else after - before
        D = D.transpose(-1, -2).contiguous() if target.transposed else D
        op = Dense(D, experts=target.kind in {"experts", "experts_t"})
        low, error, square = truncated(op, self.rank, self.energy)
        with self._lock:
            self._found.operators[target.path] = low
            for twin in self.twins.get(name, ()):
                self._found.operators[twin.path] = low if twin.kind == target.kind else _turned(low)
                self._found.twins = True
            self._found.fitted.append(Fitted(target.path, low.rank, math.sqrt(square), error))
            if target.kind == "embedding":
                self._found.tables.append(name)
            self.svd += time.perf_counter() - started


def _turned(low: LowRank) -> LowRank:
    """The transposed delta: of an output head that shares its tensor with a look-up table."""
    return LowRank(low.A.t().contiguous(), low.B.t().contiguous(), low.scale)
