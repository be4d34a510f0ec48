"""Targets that a checkpoint has in several tensors: experts that loading would stack, q, k and v that one module has.

Expert e of a stack (e, out, in) is one tensor, or several that lie behind each other along its rows (gate and up); a
module that another library cuts apart is such tensors without experts. An adapter of the target is then one of each of
them: its tensors of that expert, and of these rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.adapter import Adapter, Target, agree, kinds
from adaptr.checkpoint.open import Stored
from adaptr.errors import ShapeError, TargetMismatch, Unsupported, phrases

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.checkpoint.names import Names


@dataclass(frozen=True)
class Piece:
    """A stored tensor that is `rows` of a target, or of the expert `number` of a stack."""

    stored: Stored
    number: int
    rows: slice

    def target(self, whole: Target) -> Target:
        shape = (self.rows.stop - self.rows.start, whole.shape[-1])
        return Target(self.stored.name.removesuffix(".weight"), kinds.LINEAR, shape, whole.config)


def pieces(names: Names, target: Target) -> list[Piece]:
    """What a target is made of, in its order; nothing where it is stored as it is, or made in another way.

    Raises `TargetMismatch` for other sizes.
    """
    if not target.stacked:
        return _behind(names, target)
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


def _behind(names: Names, target: Target) -> list[Piece]:
    """The tensors that lie one behind the other along a target's rows."""
    if not target.is_linear or f"{target.path}.weight" in names.checkpoint.tensors:
        return []
    spelled = names.spelled(f"{target.path}.weight")
    several = spelled.stored if spelled is not None and len(spelled.stored) > 1 else ()
    if any(len(stored.entry.shape) != 2 for stored in several):
        return []
    ends = list(itertools.accumulate(stored.entry.shape[0] for stored in several))
    found = [Piece(one, 0, slice(end - one.entry.shape[0], end)) for one, end in zip(several, ends, strict=True)]
    if found:
        _check(target, found)
    return found


def _check(target: Target, found: list[Piece]) -> None:
    rows, columns = found[-1].rows.stop, found[-1].stored.entry.shape[-1]
    shape = (found[-1].number + 1, rows, columns) if target.stacked else (rows, columns)
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
            part = dict(_part(adapter, target, piece))
            _require_whole(adapter, piece.target(target), part)
            tensors |= {f"{name}:{param}": tensor for param, tensor in part.items()}
    return adapter.replace(targets=targets, tensors=tensors), stacks


def _part(adapter: Adapter, target: Target, piece: Piece) -> Iterator[tuple[str, Tensor]]:
    method = plugins.method(adapter.method)
    values: Mapping[str, Any] = vars(method.config(target.config))
    for name, tensor in adapter.at(target.path).items():
        tokens = method.params[name].tokens(values)
        if "*e" in tokens:
            tensor = tensor.select(tokens.index("*e"), piece.number) if target.stacked else tensor
            tokens.remove("*e")
        if "out" in tokens:
            tensor = tensor.narrow(tokens.index("out"), piece.rows.start, piece.rows.stop - piece.rows.start)
        if not method.params[name].shared:
            yield name, tensor


def _require_whole(adapter: Adapter, target: Target, part: Mapping[str, Tensor]) -> None:
    """Raises `Unsupported` where the parts of a method's tensors are no tensors of the part: products over all rows."""
    try:
        wanted = plugins.method(adapter.method).shapes(target)
    except ShapeError:
        wanted = None
    if wanted is None or any(tuple(part[name].shape) != shape for name, shape in wanted.items() if name in part):
        raise Unsupported(
            f"the base keeps the rows of `{target.path}` apart from others, and a {adapter.method} can't be cut so",
            hint="convert it with `adaptr convert --method lora`, or merge into a base with the adapter's own names",
        )
