"""Stacks of experts whose checkpoint has each expert's matrices apart, as `from_pretrained` would stack them.

Expert e of a stack (e, out, in) is one tensor, or several that lie behind each other along its rows (gate and up). An
adapter of the stack is then one of each of them: its tensors of that expert, and of these rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.adapter import Adapter, Target, agree, kinds
from adaptr.checkpoint.open import Stored
from adaptr.errors import TargetMismatch, phrases

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.checkpoint.names import Names


@dataclass(frozen=True)
class Piece:
    """A stored tensor that is `rows` of one expert."""

    stored: Stored
    number: int
    rows: slice

    def target(self, whole: Target) -> Target:
        shape = (self.rows.stop - self.rows.start, whole.shape[2])
        return Target(self.stored.name.removesuffix(".weight"), kinds.LINEAR, shape, whole.config)


def pieces(names: Names, target: Target) -> list[Piece]:
    """What a stack is made of, in its order; nothing where it is stored as it is, or made in another way.

    Raises `TargetMismatch` for other sizes.
    """
    made = names.conversion(target.path) if target.stacked and not target.transposed else None
    found: list[Piece] = []
    for number, sources in enumerate(made.experts if made is not None else []):
        start = 0
        for name in sources:
            stored = names.checkpoint.tensors[name]
            found.append(Piece(stored, number, slice(start, start := start + stored.entry.shape[0])))
    if found:
        _check(target, found)
    return found


def _check(target: Target, found: list[Piece]) -> None:
    shape = (found[-1].number + 1, found[-1].rows.stop, found[-1].stored.entry.shape[-1])
    if not agree(shape, target.shape):
        raise phrases.misshapen(
            f"`{target.path}` in the base", shape, target.shape, TargetMismatch, by="by the adapter", hint=phrases.BASE
        )


def apart(names: Names, adapter: Adapter) -> tuple[Adapter, dict[str, str]]:
    """`adapter` with the tensors of the checkpoint as its targets, where it has those that loading stacks, and which
    target each is of: {path: its stack's}.
    """
    split = {path: found for path, target in adapter.targets.items() if (found := pieces(names, target))}
    if not split:
        return adapter, {}
    targets: dict[str, Target] = {}
    tensors, stacks = dict(adapter.tensors), dict[str, str]()
    for path, target in adapter.targets.items():
        own = {piece.target(target).path: piece for piece in split.get(path, ())}
        targets |= {name: piece.target(target) for name, piece in own.items()} or {path: target}
        stacks |= dict.fromkeys(own, path)
        for name, piece in own.items():
            tensors |= {f"{name}:{param}": t for param, t in _part(adapter, target, piece)}
    return adapter.replace(targets=targets, tensors=tensors), stacks


def _part(adapter: Adapter, target: Target, piece: Piece) -> Iterator[tuple[str, Tensor]]:
    method = plugins.method(adapter.method)
    values: Mapping[str, Any] = vars(method.config(target.config))
    for name, tensor in adapter.at(target.path).items():
        tokens = method.params[name].tokens(values)
        if "*e" in tokens:
            tensor = tensor.select(tokens.index("*e"), piece.number)
            tokens.remove("*e")
        if "out" in tokens:
            tensor = tensor.narrow(tokens.index("out"), piece.rows.start, piece.rows.stop - piece.rows.start)
        if not method.params[name].shared:
            yield name, tensor
