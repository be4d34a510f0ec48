"""From a PEFT folder to an adapter."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import REPLACED, Adapter, Base, Target
from adaptr.errors import ConfigConflict, NoAdapterTensors, TargetMismatch, TensorUnknown, phrases
from adaptr.foreign import finish
from adaptr.foreign.draft import Draft, Piece, Pieces
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import initial, keys, promised, promises, tokens, told, types
from adaptr.foreign.peft import source as sources
from adaptr.foreign.supplied import NOTHING, Supplied
from adaptr.roles import CONV1D_MODELS

if TYPE_CHECKING:
    from torch import nn

    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.peft.source import Source


def read(
    weights: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING, begun: Path | None = None
) -> Adapter:
    """The adapter in PEFT's `weights`, with its configuration beside them.

    `base`: a folder with its `config.json`, or a live model. `supplied`: which of a file's tasks is meant. `begun`: the
    weights of the same adapter before training.

    Raises `Unsupported` for types and options that adaptr can't follow, a `ForeignError` where configuration and
    tensors are incomplete or contradict each other, a `WrongBase` where they don't fit `base`.
    """
    source = sources.read(weights, base, supplied.task, begun)
    if not source.type.tasked:
        supplied.refuse(f"a file of type {source.type.peft} has one task or none", "task")
    if not initial.changed(source.config):
        supplied.refuse("by its `init_lora_weights` its base was not changed", "initial")
    model = _model(source, base)
    _gathered(source)
    draft: Draft = source.type.read(source, model)
    if not draft.targets and not draft.parts and not (source.type.whole and draft.pieces):
        raise _nothing(source)
    pieces = {**draft.pieces, **dict(_replaced(source))}
    adapter = Adapter(
        method=draft.method,
        config=draft.config,
        targets=draft.targets,
        tensors=Pieces(source.tensors, pieces),
        parts=draft.parts,
        base=dataclasses.replace(_base(source.config, base), ties=draft.ties),
        source=str(source.path),
    )
    finish.check(adapter, pieces)
    promises.require(promised.Promised.of(source.config, adapter), base if model is None else model)
    return _placed(_completed(adapter, source, draft.rewritten), model)


def _gathered(source: Source) -> None:
    """Raises `NoAdapterTensors` for a file that ZeRO-3 emptied."""
    if source.type.trimmed:
        return
    empty = next((key for key, shape in source.shapes.items() if 0 in shape), None)
    if empty is not None:
        raise NoAdapterTensors(
            f"`{empty}` has shape {source.shapes[empty]}: it was saved while its values were on other processes "
            "(ZeRO-3)",
            hint="save it again after gathering",
        )


def _nothing(source: Source) -> Exception:
    said = source.config["peft_type"]
    foreign = next((key.source for key in source.keys if keys.is_foreign(key.source)), None)
    known = next((key.source for key in source.keys if key.slot), foreign)
    if known:
        return ConfigConflict(
            f"the configuration says {said}, and `{known}` belongs to another type", hint=phrases.AGAIN
        )
    return NoAdapterTensors(
        f"`{source.path}` holds {len(source.shapes)} tensors and none of an adapter of type {said}", hint=phrases.AGAIN
    )


def _replaced(source: Source) -> Iterator[tuple[str, Piece]]:
    """Whole parameters: heads, embeddings, norms and biases that were trained or resized."""
    saved = fields_of.words(source.config, "modules_to_save")
    for key in keys.whole(source.keys):
        owner, _, name = key.path.rpartition(".")
        listed = any(fields_of.named(saved, part) for part in _owners(key.path))
        if keys.is_foreign(key.path, saved) or not owner or not (listed or name in {"weight", "bias"}):
            raise TensorUnknown(
                f"`{key.source}` is no tensor of a {source.config['peft_type']} adapter", hint=phrases.AGAIN
            )
        yield f"{key.path}:{REPLACED}", Piece(key.source, source.shapes[key.source])


def _owners(path: str) -> Iterator[str]:
    while path := path.rpartition(".")[0]:
        yield path


def _model(source: Source, base: BaseModel | None) -> nn.Module | None:
    """The base's modules, where the file leaves open which they are: building them takes seconds."""
    from adaptr.checkpoint.skeleton import described, skeleton

    if isinstance(base, str | os.PathLike):
        open_kinds = described(base).get("model_type") in CONV1D_MODELS
        unnamed = source.type.open or any(map(source.config.get, ("target_parameters", tokens.FIELD)))
        return skeleton(base) if open_kinds or unnamed else None
    return None if base is None else skeleton(base)


def _architecture(config: Mapping[str, Any], base: BaseModel | None) -> str:
    from adaptr.checkpoint.skeleton import described

    if isinstance(base, str | os.PathLike):
        return str((described(base).get("architectures") or [""])[0])
    if base is not None:
        return type(base).__name__.removeprefix("Adapted")
    mapping = config.get("auto_mapping")
    return str(mapping.get("base_model_class") or "") if isinstance(mapping, Mapping) else ""


def _base(config: Mapping[str, Any], base: BaseModel | None) -> Base:
    return Base(
        id=fields_of.text(config, "base_model_name_or_path"),
        revision=fields_of.text(config, "revision"),
        architecture=_architecture(config, base),
    )


def _completed(adapter: Adapter, source: Source, rewritten: Mapping[str, Any]) -> Adapter:
    """What the file says beyond tensors: its configuration as it is, and what adaptr wrote into it earlier."""
    from adaptr.foreign.peft.writing import derived

    said, license = source.about, source.about["license"] or told.license_of(source.told)
    adapter = finish.named(adapter, {**said, "license": license})
    adapter = adapter.replace(foreign={"peft": {"config": dict(source.config), **source.told}})
    if rewritten:
        fields = types.of_method(adapter.method).fields(adapter)
        adapter.foreign["peft"]["config"].update({**fields, **rewritten})
    kept = {"derived": derived(adapter), **source.type.sealed(adapter)}
    return adapter.replace(foreign={"peft": {**adapter.foreign["peft"], **kept}})


def _placed(adapter: Adapter, model: nn.Module | None) -> Adapter:
    if model is None or not any(t.is_attention for t in adapter.targets.values()):
        return adapter
    from adaptr.families.prompt import placed

    found = placed(model, adapter)
    _same_shapes(adapter, found.targets)
    return found


def _same_shapes(adapter: Adapter, targets: Mapping[str, Target]) -> None:
    for before, after in zip(adapter.targets.values(), targets.values(), strict=True):
        if before.shape != after.shape:
            raise TargetMismatch(
                f"`{after.path}`",
                verb="has",
                got=f"heads of {after.shape} in the base",
                want=f"{before.shape} by the prefix",
                hint=phrases.BASE,
            )
