"""Targets that a checkpoint has in several tensors, or with its rows in another order: experts that loading would
stack, q, k and v that one module has, modulations whose scale and shift change places.

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
from adaptr.checkpoint.names import Names, Place
from adaptr.checkpoint.stored import Stored
from adaptr.errors import ShapeError, TargetMismatch, Unsupported, phrases

if TYPE_CHECKING:
    from torch import Tensor

#: The axis of experts, the first of tensors that have it.
EXPERTS = "*e"


@dataclass(frozen=True)
class Piece:
    """A stored tensor that is `rows` of a target, these behind each other, or of the expert `number` of a stack."""

    stored: Stored
    number: int
    rows: tuple[slice, ...]

    def target(self, whole: Target, *rows: slice) -> Target:
        """What an adapter is of there, or of some of its rows."""
        shape = (sum(one.stop - one.start for one in rows or self.rows), whole.shape[-1])
        return Target(self.stored.name.removesuffix(".weight"), kinds.LINEAR, shape, whole.config)

    @property
    def places(self) -> list[Place]:
        """Where the rows are, in the order that the target has them in."""
        ends = list(itertools.accumulate(one.stop - one.start for one in self.rows))
        own = [slice(start, end) for start, end in itertools.pairwise([0, *ends])]
        return [Place(self.stored, own[i]) for i in sorted(range(len(own)), key=lambda i: self.rows[i].start)]


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
            found.append(Piece(stored, number, (slice(start, start := start + stored.entry.shape[0]),)))
    if found:
        _check(target, found)
    return found


def _behind(names: Names, target: Target) -> list[Piece]:
    """The tensors that lie one behind the other along a target's rows, or the one that has its halves swapped."""
    if not target.is_linear or f"{target.path}.weight" in names.checkpoint.tensors:
        return []
    spelled = names.spelled(f"{target.path}.weight")
    stored = spelled.stored if spelled is not None and (len(spelled.stored) > 1 or spelled.swapped) else ()
    if spelled is None or not stored or any(len(one.entry.shape) != 2 for one in stored):
        return []
    ends = list(itertools.accumulate(one.entry.shape[0] for one in stored))
    found = [Piece(one, 0, (slice(end - one.entry.shape[0], end),)) for one, end in zip(stored, ends, strict=True)]
    _check(target, found)
    half = ends[0] // 2
    return [Piece(stored[0], 0, (slice(half, ends[0]), slice(0, half)))] if spelled.swapped else found


def _check(target: Target, found: list[Piece]) -> None:
    rows, columns = found[-1].rows[-1].stop, found[-1].stored.entry.shape[-1]
    shape = (found[-1].number + 1, rows, columns) if target.stacked else (rows, columns)
    if not agree(shape, target.shape):
        raise phrases.misshapen(
            f"`{target.path}` in the base", shape, target.shape, TargetMismatch, by="by the adapter", hint=phrases.BASE
        )


def apart(names: Names, adapter: Adapter) -> tuple[Adapter, dict[str, str]]:
    """`adapter` with the tensors of the checkpoint as its targets, where it has those that loading stacks or turns, and
    which target each is of: {path: its stack's}.
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
            tensors |= {f"{name}:{param}": tensor for param, tensor in _joined(adapter, target, piece).items()}
    return adapter.replace(targets=targets, tensors=tensors), stacks


def _joined(adapter: Adapter, target: Target, piece: Piece) -> dict[str, Tensor]:
    """The tensors of the rows of a piece, those of several ranges behind each other."""
    import torch

    parts = [dict(_part(adapter, target, piece.number, rows)) for rows in piece.rows]
    for rows, part in zip(piece.rows, parts, strict=True):
        _require_whole(adapter, piece.target(target, rows), part)
    axes = {name: _axes(adapter, target, name) for name in parts[0]}
    return {
        name: torch.cat([part[name] for part in parts], axes[name].index("out"))
        if len(parts) > 1 and "out" in axes[name]
        else tensor
        for name, tensor in parts[0].items()
    }


def _part(adapter: Adapter, target: Target, number: int, rows: slice) -> Iterator[tuple[str, Tensor]]:
    params = plugins.method(adapter.method).params
    for name, tensor in adapter.at(target.path).items():
        if target.stacked and EXPERTS in params[name].axes:
            tensor = tensor[number]
        axes = _axes(adapter, target, name)
        if "out" in axes:
            tensor = tensor.narrow(axes.index("out"), rows.start, rows.stop - rows.start)
        if not params[name].shared:
            yield name, tensor


def _axes(adapter: Adapter, target: Target, name: str) -> list[str]:
    """The axes of a tensor of a method at one matrix: at a stack it has that of the experts before them."""
    method = plugins.method(adapter.method)
    values: Mapping[str, Any] = vars(method.config(target.config))
    return [axis for axis in method.params[name].tokens(values) if axis != EXPERTS]


def _require_whole(adapter: Adapter, target: Target, part: Mapping[str, Tensor]) -> None:
    """Raises `Unsupported` where the parts of a method's tensors are no tensors of the part: products over all rows,
    numbers of entries, norms, what all targets share by their sizes.
    """
    method = plugins.method(adapter.method)
    try:
        uncut = any(one.shared or one.whole or one.joint for one in method.params.values())
        wanted = None if uncut else method.shapes(target)
    except ShapeError:
        wanted = None
    if wanted is None or any(tuple(part[name].shape) != shape for name, shape in wanted.items() if name in part):
        raise Unsupported(
            f"the base keeps the rows of `{target.path}` apart from others, and a {adapter.method} can't be cut so",
            hint="convert it with `adaptr convert --method lora`, or merge into a base with the adapter's own names",
        )
