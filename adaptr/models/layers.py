"""The layers of a checkpoint as targets: what a delta to each of its tensors would be called and how it is stored."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from adaptr.adapter import Base, Target, agree, kinds
from adaptr.checkpoint.names import Names
from adaptr.checkpoint.open import Checkpoint
from adaptr.roles import CONV1D_MODELS, is_embedding

if TYPE_CHECKING:
    from torch import nn

#: Tables of positions and token types; `is_embedding` knows those of words.
TABLES = ("wpe", "embed_positions", "position_embeddings", "token_type_embeddings", "position_embedding")
WEIGHT = ".weight"


@dataclass(frozen=True)
class Layers:
    """`weights`: tensor name to target for every weight that is a matrix, a kernel or a stack. `twins`: tensor name to
    the other layers that share the tensor. `base`: the model as far as it is known. `names`: tensor name to what the
    model calls it, as far as it is known.
    """

    weights: Mapping[str, Target]
    base: Base
    twins: Mapping[str, tuple[Target, ...]]
    names: Mapping[str, str] = field(default_factory=dict)


def layers(checkpoint: Checkpoint) -> Layers:
    """The layers of a checkpoint.

    Where a table or transformers knows the model, kinds and paths are those of its modules; else names and shapes
    decide, and nothing is known of twins.
    """
    return _of_model(checkpoint) or Layers(_by_name(checkpoint), Base(architecture=_architecture(checkpoint)), {})


def _of_model(checkpoint: Checkpoint) -> Layers | None:
    names = Names(checkpoint)
    if names.drawn is not None:
        stored = {name: name for name in checkpoint.tensors}
        made = _laid(names, cast("nn.Module", names.drawn), stored)  # a model, as far as it is asked here
        return made and replace(made, base=replace(made.base, architecture=_architecture(checkpoint)))
    return None if names.loading is None else _laid(names, names.loading.model, names.loading.names)


def _laid(names: Names, model: nn.Module, called: Mapping[str, str]) -> Layers | None:
    """The layers of a model in a checkpoint."""
    from adaptr.host import base_of
    from adaptr.targets import describe

    found: dict[str, Target] = {}
    for path, module in model.named_modules():
        target = describe(path, module)
        stored = names.find(path + WEIGHT) if target is not None and target.is_matrix else None
        # a head that shares the embedding's tensor comes after it, and is the same tensor
        if target is None or stored is None or stored.name in found:
            continue
        if agree(stored.entry.shape, target.stored_shape):
            found[stored.name] = target
    if not found:
        return None
    base = base_of(model, {})
    twins = {name: _twins(model, target, base.ties) for name, target in found.items()}
    weights = {**_by_name(names.checkpoint, found, called), **found}
    return Layers(weights, base, {name: t for name, t in twins.items() if t}, called)


def _twins(model: nn.Module, target: Target, ties: Collection[tuple[str, ...]]) -> tuple[Target, ...]:
    from adaptr.targets import describe

    names = [name for tie in ties if target.path + WEIGHT in tie for name in tie if name != target.path + WEIGHT]
    paths = [name.removesuffix(WEIGHT) for name in names]
    return tuple(t for path in paths if (t := describe(path, model.get_submodule(path))) is not None)


def _by_name(
    checkpoint: Checkpoint, known: Collection[str] = (), called: Mapping[str, str] | None = None
) -> dict[str, Target]:
    """The layers among the tensors that are not `known`, under what they are `called`."""
    found: dict[str, Target] = {}
    turned = checkpoint.config.get("model_type") in CONV1D_MODELS
    for name, stored in checkpoint.tensors.items():
        shape = stored.entry.shape
        if name in known or not 2 <= len(shape) <= 5 or 0 in shape:
            continue
        if len(shape) == 2 and name.endswith(WEIGHT):
            path = (called or {}).get(name, name).removesuffix(WEIGHT)
            table = is_embedding(name) or path.rpartition(".")[2] in TABLES
            kind = kinds.TABLE if table else kinds.layer(turned)
            size = (shape[1], shape[0]) if kinds.TABLE_OF[kind].transposed else shape
            found[name] = Target(path, kind, size)
        elif len(shape) > 2 and name.endswith(WEIGHT):
            path = (called or {}).get(name, name).removesuffix(WEIGHT)
            found[name] = Target(path, f"conv{len(shape) - 2}d", shape)
    return found


def _architecture(checkpoint: Checkpoint) -> str:
    return str((checkpoint.config.get("architectures") or [""])[0])
