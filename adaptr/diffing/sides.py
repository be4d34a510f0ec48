"""The two sides of a diff: an adapter through its deltas, or a checkpoint as a change to its base."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from adaptr import foreign
from adaptr.adapter import Adapter, Target
from adaptr.algebra.dense import Dense
from adaptr.algebra.difference import Difference
from adaptr.algebra.operator import Operator
from adaptr.changes.deltas import Deltas
from adaptr.checkpoint.names import Names
from adaptr.checkpoint.open import Checkpoint
from adaptr.checkpoint.parts import INDEX, PIPELINE
from adaptr.checkpoint.reading import whole
from adaptr.errors import AdaptrError, CheckpointError, phrases
from adaptr.foreign import detect
from adaptr.foreign.seen import CONFIG, is_adaptr
from adaptr.format.gguf import is_gguf
from adaptr.merging.verify import bits
from adaptr.models.aligned import aligned
from adaptr.models.layers import layers
from adaptr.models.ties import weight_place
from adaptr.models.weights import of
from adaptr.sources.open import adaptr_file

if TYPE_CHECKING:
    from torch import Tensor


class Side(Protocol):
    """One of the two things compared. `targets`: the places whose weights it may change."""

    label: str
    targets: Mapping[str, Target]

    def at(self, path: str) -> Operator | None:
        """What it does to the weight of a target, None for nothing."""

    def others(self) -> Mapping[str, tuple[str, Tensor]]:
        """What else it holds: name to (what it is, its value)."""


class AdapterSide:
    """An adapter. `called`: what its places are called here, where that is not what it calls them."""

    def __init__(self, label: str, deltas: Deltas, called: Mapping[str, str] | None = None) -> None:
        self.label, self.deltas, self._called = label, deltas, dict(called or {})
        self._own = {new: old for old, new in self._called.items()}
        found = {self._name(path): deltas.targets[path] for path in deltas}
        self.targets: Mapping[str, Target] = {path: replace(target, path=path) for path, target in found.items()}

    def _name(self, path: str) -> str:
        return self._called.get(path, path)

    def at(self, path: str) -> Operator | None:
        return solid(self.deltas[self._own.get(path, path)]) if path in self.targets else None

    def others(self) -> Mapping[str, tuple[str, Tensor]]:
        biases = {f"{self._name(path)}.bias": ("bias", value) for path, value in self.deltas.biases.items()}
        return biases | {self._name(path): ("parameter", value) for path, value in self.deltas.replaced.items()}


def called(one: Deltas, two: Deltas, ground: Checkpoint | None) -> list[dict[str, str]]:
    """What the model of `ground` calls the places of two adapters, where they name others."""
    paths: list[dict[str, Target | None]] = [{**dict.fromkeys(side.replaced), **side.targets} for side in (one, two)]
    if ground is None or paths[0].keys() == paths[1].keys():
        return [{}, {}]
    names = Names(ground)
    return [names.renamings(mine) for mine in paths]


class CheckpointSide:
    """A checkpoint minus its base, which may be itself.

    `named`: targets as the other side calls them, which may be rows of a fused tensor. Raises `CheckpointError` for a
    tensor that the base has and the checkpoint lacks.
    """

    def __init__(self, label: str, base: Checkpoint, tuned: Checkpoint, named: Mapping[str, Target]) -> None:
        pair = aligned(base, tuned)
        self.label, self.base, self.tuned = label, (base := pair.base), (tuned := pair.tuned)
        gone = sorted(set(base.tensors) - set(tuned.tensors))
        if gone:
            raise CheckpointError(
                f"`{tuned.root}` lacks `{gone[0]}`, which its base has ({len(gone)} are missing)", hint=phrases.BASE
            )
        self._weights = layers(base).weights
        names = Names(base)
        met = {weight_place(names, target).stored.name for target in named.values()}
        own = {t.path: t for name, t in self._weights.items() if name not in met and self._fits(name)}
        self.targets: Mapping[str, Target] = {**named, **own}

    def _fits(self, name: str) -> bool:
        return self.tuned.tensors[name].entry.shape == self.base.tensors[name].entry.shape

    def at(self, path: str) -> Operator | None:
        if self.base.root == self.tuned.root or path not in self.targets:
            return None
        target = self.targets[path]
        probe = Adapter("full", {}, {path: target}, {})
        before, after = of(self.base, probe)(target), of(self.tuned, probe)(target)
        found = solid(Difference(before, after, target.shape, experts=target.stacked))
        return found if found.norm() else None

    def others(self) -> Mapping[str, tuple[str, Tensor]]:
        """Tensors that are no target's weight and not as in the base."""
        found = {}
        for name, stored in sorted(self.tuned.tensors.items()):
            mine = self.base.tensors.get(name)
            if self.base.root == self.tuned.root or (name in self._weights and self._fits(name)):
                continue
            if mine is None or mine.entry.shape != stored.entry.shape or not same_bytes(whole(mine), whole(stored)):
                found[name] = ("tensor", whole(stored))
        return found


def same_bytes(one: Tensor, two: Tensor) -> bool:
    """Whether two tensors of one shape are equal bit for bit, dtype included."""
    return one.dtype == two.dtype and bool((bits(one) == bits(two)).all())


def solid(op: Operator) -> Operator:
    """A difference of two readings as a matrix in memory: to read it again would be to read the files again."""
    if not isinstance(op, Difference):
        return op
    return Dense(op.dense().contiguous(), experts=op.experts)


def is_checkpoint(source: Path) -> bool:
    """Whether a folder or file holds the weights of a model and no adapter."""
    try:
        if source.is_dir():
            if adaptr_file(source) is not None or (source / CONFIG).exists():
                return False
            if any((source / mark).exists() for mark in ("model.safetensors", INDEX, PIPELINE, "snapshots")):
                return True
            return (source / "config.json").exists() and foreign.claimed(source) is None  # some tools call theirs so
        known = is_adaptr(source) or foreign.claimed(source) is not None
        model = is_gguf(source) or (source.suffix == ".safetensors" and not detect.name_of(source))
        return model and not known
    except AdaptrError:
        return False
