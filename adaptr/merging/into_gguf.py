"""Merging into a GGUF file: its header says what the model is, and only the types of tensors may change there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adaptr.bulk.change import Change, Plan
from adaptr.checkpoint.laid import Laid
from adaptr.checkpoint.open import Checkpoint
from adaptr.checkpoint.relaid import relaid
from adaptr.checkpoint.rewrite import Layout
from adaptr.checkpoint.stored import Shard
from adaptr.errors import Unsupported
from adaptr.errors.text import size

BESIDE = "`adaptr convert --to gguf` makes of the adapter what llama.cpp loads beside the file; or say `--lossy`"
WAY = "merge into the model that the file was converted from, and convert that"


def require_room(checkpoint: Checkpoint, todo: Plan, config: Mapping[str, Any]) -> None:
    """Raises `Unsupported` for what would change more of a GGUF file than the values of its tensors."""
    for change in todo.changes.values():
        if change.added:
            raise Unsupported(
                f"`{change.name}` would be a tensor that `{checkpoint.root}` has not, and its header has no room for",
                hint=WAY,
            )
        if change.value is not None and tuple(change.value.shape) != change.stored.entry.shape:  # type: ignore[union-attr]
            raise Unsupported(
                f"`{change.name}` would have another size, and `{checkpoint.root}` holds a tokenizer of the one it has",
                hint=WAY,
            )
    if config != checkpoint.config:
        raise Unsupported(
            f"the merged model would be of another configuration, which the header of `{checkpoint.root}` can't say",
            hint=WAY,
        )


def layouts(checkpoint: Checkpoint, todo: Plan) -> list[tuple[Shard, Layout]]:
    """The output's one file."""
    types = {name: codec.written.kind for name, (_, codec) in _retyped(todo).items()}
    return [(shard, relaid(shard, checkpoint.config, types)) for shard in checkpoint.shards]


def said(todo: Plan) -> list[str]:
    """A note on the weights that are of another type now."""
    mine = _retyped(todo)
    if not mine:
        return []
    kinds = " and ".join(sorted({codec.kind for _, codec in mine.values()}))
    new = " and ".join(sorted({codec.written.kind for _, codec in mine.values()}))
    before = sum(change.packed.nbytes for change, _ in mine.values() if change.packed is not None)
    after = sum(codec.written.before(codec.shape[0]) for _, codec in mine.values())
    what = "1 weight is" if len(mine) == 1 else f"{len(mine)} weights are"
    return [f"{what} {new} now, as {kinds} can only be read: {size(before)} became {size(after)}"]


def _retyped(todo: Plan) -> dict[str, tuple[Change, Laid]]:
    """The changes whose weights are written in another type than they are read in."""
    return {
        name: (change, codec)
        for name, change in todo.changes.items()
        if change.packed is not None and isinstance(codec := change.packed.codec, Laid) and codec.written != codec
    }
