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
from adaptr.algebra.operator import BLOCK
from adaptr.algebra.truncate import truncated
from adaptr.bulk import workers
from adaptr.bulk.blocks import working
from adaptr.bulk.change import FLOATS
from adaptr.checkpoint.reading import whole
from adaptr.checkpoint.stored import Stored
from adaptr.errors import NonFinite, NothingChanged
from adaptr.extracting.between import Between, between
from adaptr.extracting.pair import compared
from adaptr.files.meter import Meter, Progress
from adaptr.models.aligned import Aligned
from adaptr.models.layers import Layers
from adaptr.results.ranks import Fitted

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
class Extracted:
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
        pair: Aligned,
        found: Layers,
        rank: int | None,
        energy: float | None,
        choice: Choice,
        progress: Progress | None,
    ) -> None:
        self.base, self.tuned, self.read, self.choice = pair.base, pair.tuned, pair.read, choice
        self.weights, self.twins, self.names = found.weights, found.twins, found.names
        self.rank, self.energy = rank, energy
        self.meter = Meter(self.base.nbytes + self.tuned.nbytes, "extracting", progress)
        self.reading = self.svd = 0.0
        self.unchanged = 0
        self._lock = threading.Lock()
        self._digests: tuple[dict[str, str], dict[str, str]] = ({}, {})
        self._found = Extracted({}, [], {}, {}, [], [])

    def run(self) -> Extracted:
        """Raises `NothingChanged` if every tensor is as in the base."""
        names = sorted(self.tuned.tensors, key=lambda name: (-self.tuned.tensors[name].entry.nbytes, name))
        workers.run(self._one, names)
        found = self._found
        if self.unchanged == len(names):
            raise NothingChanged(
                f"`{self.tuned.root}` equals `{self.base.root}`: all {len(names)} tensors are the same",
                hint="look whether the training saved what it trained",
            )
        if not (found.operators or found.biases or found.replaced):
            raise NothingChanged(
                f"all that changed is to be dropped: {', '.join(sorted(found.dropped)[:3])}", hint="keep some of it"
            )
        found.fitted.sort(key=lambda fitted: fitted.path)
        found.dropped.sort()
        return found

    def parent(self, role: str, side: int) -> dict[str, Any]:
        """A checkpoint as a lineage names it: a digest over name, dtype, shape and digest of every tensor."""
        lines = hashlib.sha256()
        checkpoint = (self.base, self.tuned)[side]
        named = ((own, name) for name, own in self.read[side].items() if name in self._digests[side])
        for name, key in sorted(named):
            entry, sha = checkpoint.tensors[key].entry, self._digests[side][key]
            lines.update(f"{name}\0{entry.dtype}\0{','.join(map(str, entry.shape))}\0{sha}\n".encode())
        return {"role": role, "format": "checkpoint", "digest": "sha256:" + lines.hexdigest()}

    def _one(self, name: str) -> None:
        started = time.thread_time()
        before, after = self.base.tensors.get(name), self.tuned.tensors[name]
        target = self._fitted(name, before, after)
        pair = compared(before, after, target is not None)
        self.meter.add(after.entry.nbytes + (before.entry.nbytes if before is not None else 0))
        with self._lock:
            for digests, digest in zip(self._digests, pair.digests, strict=True):
                digests |= {name: digest} if digest else {}
            self.reading += time.thread_time() - started
            self.unchanged += pair.same
        if not pair.finite:
            raise self._nonfinite(name)
        if not pair.same and target is not None and before is not None:
            self._fit(name, target, before, after)
        elif not pair.same:
            self._changed(name, before, after)

    def _fitted(self, name: str, before: Stored | None, after: Stored) -> Target | None:
        """The target that a tensor becomes a low-rank delta of, or None."""
        target = self.weights.get(name)
        if target is None or not _comparable(before, after):
            return None
        return target if not target.looked_up or self.choice.embeddings == "low-rank" else None

    def _changed(self, name: str, before: Stored | None, after: Stored) -> None:
        """Sort a tensor that is not the base's, and no low-rank delta, into what becomes of it."""
        new, target, choice = whole(after), self.weights.get(name), self.choice
        if new.is_floating_point():
            self._require_finite(name, new)
        owner = self._owner(name)
        if before is not None and owner is not None and _comparable(before, after):
            self._bias(name, owner, whole(before), new)
        else:
            table = target is not None and target.looked_up
            self._keep(name, new, choice.embeddings != "drop" if table else choice.rest == "replace")

    def _require_finite(self, name: str, tensor: Tensor) -> None:
        import torch

        if not bool(torch.isfinite(tensor.sum(dtype=torch.float64))):
            raise self._nonfinite(name)

    def _nonfinite(self, name: str) -> NonFinite:
        return NonFinite(
            f"`{name}` in `{self.tuned.root}` holds NaN or infinity",
            hint="take a checkpoint from before its training failed",
        )

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
                self._found.replaced |= dict.fromkeys((self.names.get(name, name), *others), value)
                self._found.twins |= bool(others)
            else:
                self._found.dropped.append(name)

    def _fit(self, name: str, target: Target, before: Stored, after: Stored) -> None:
        started = time.thread_time()
        with between(before, after, target.stacked) as stored:
            low, error, square = self._truncated(stored, target.transposed)
        with self._lock:
            self._found.operators[target.path] = low
            for twin in self.twins.get(name, ()):
                self._found.operators[twin.path] = low if twin.kind == target.kind else _turned(low)
                self._found.twins = True
            self._found.fitted.append(Fitted(target.path, low.rank, math.sqrt(square), error))
            if target.looked_up:
                self._found.tables.append(name)
            self.svd += time.thread_time() - started

    def _truncated(self, D: Between, transposed: bool) -> tuple[LowRank, float, float]:
        """D is held where it is small; the sides of a large one change places in its factors."""
        if math.prod(D.shape) <= BLOCK:
            held = D.dense()
            held = held.transpose(-1, -2).contiguous() if transposed else held
            return truncated(Dense(held, experts=D.experts), self.rank, self.energy)
        low, error, square = truncated(D, self.rank, self.energy)
        return _turned(low) if transposed else low, error, square


def _comparable(before: Stored | None, after: Stored) -> bool:
    """Whether the base has the tensor in the same shape, and it is of floats."""
    return before is not None and before.entry.shape == after.entry.shape and after.entry.dtype in FLOATS


def _turned(low: LowRank) -> LowRank:
    """The transposed delta: of an output head that shares its tensor with a look-up table."""
    A, B = low.A.mT.contiguous(), low.B.mT.contiguous()
    shape = (*A.shape[:-1], B.shape[-1])
    return LowRank.of(A, B, shape, low.experts) * low.scale
