"""From a file of kohya's or LyCORIS's to an adapter."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Adapter
from adaptr.errors import TrainedOtherwise
from adaptr.foreign import NOTHING, Supplied, placing, saving, words
from adaptr.foreign.pieces import alphas, assembling, low_rank, lycoris
from adaptr.foreign.pieces.module import ALPHA, Module
from adaptr.foreign.stored import contents
from adaptr_formats.kohya import called, split
from adaptr_formats.kohya import keys as names

if TYPE_CHECKING:
    from torch import nn

    from adaptr.foreign.format import BaseModel


def read(weights: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
    """The adapter in a file. `supplied`: alpha or scale of modules that have none in it.

    Raises a `ForeignError`, a `WrongBase`, or `Unsupported` for what adaptr can't do.
    """
    from adaptr.checkpoint.skeleton import skeleton

    model = None if base is None else skeleton(base)
    tensors, shapes, metadata = contents(weights)
    shapes = words.without(weights, shapes)
    _warn_of_dynamic(metadata)
    groups = names.grouped(shapes)
    paths = {name: called.as_named(path, metadata) for name, path in names.paths(groups, model).items()}
    prefixes = {path.partition(".")[0]: prefix for (prefix, _), path in paths.items()}
    modules = {
        paths[name]: replace(_module(paths[name], slots, shapes, tensors, model), supplied=supplied)
        for name, slots in groups.items()
    }
    alphas.refuse_held(modules.values(), supplied)
    layers = [layer for path in placing.ordered(modules) for layer in lycoris.read(modules[path])]
    split.warn(modules.values())
    _warn_of_ranks(modules)
    kept = {
        "metadata": {name: said for name, said in metadata.items() if name not in (saving.ABOUT, called.CLIP)},
        called.CLIP: any(called.NEW_CLIP.match("_".join(name)) for name in groups),
        "prefixes": prefixes,
        ALPHA: _dtype(modules),
    }
    made = assembling.adapter(layers, tensors, str(weights), saving.told(metadata))
    return made.replace(foreign={"kohya": {name: value for name, value in kept.items() if value}})


def _module(
    path: str,
    slots: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
    tensors: Mapping[str, Any],
    model: nn.Module | None,
) -> Module:
    return Module(path, slots, {slot: shapes[key] for slot, key in slots.items()}, tensors, model)


def _warn_of_dynamic(metadata: Mapping[str, str]) -> None:
    """DyLoRA trains each of its ranks, at scales of their own; whoever reads it has all of its rank at alpha / r."""
    said = f"{metadata.get('ss_network_module', '')} {metadata.get('ss_network_args', '')}".lower()
    if "dylora" in said:
        warnings.warn(
            "the file is a DyLoRA, which was trained at every rank in turn: it is read as the LoRA of all its rank, as "
            "LyCORIS and ComfyUI read it (sd-scripts' `extract_lora_from_dylora.py` makes one of a lower rank)",
            TrainedOtherwise,
            stacklevel=2,
        )


def _warn_of_ranks(modules: Mapping[str, Module]) -> None:
    """diffusers' export to kohya's names writes ranks as alphas, in int64, whatever the alphas were."""
    ranks = {path: module.shapes[low_rank.DOWN][0] for path, module in modules.items() if module.has(low_rank.DOWN)}
    if _dtype(modules) == "I64" and all(modules[path].alpha(rank) == rank for path, rank in ranks.items()):
        warnings.warn(
            "all alphas are ranks, in int64, as diffusers exports them whatever they were: it is read at the scale 1, "
            "and the alpha that it was trained with is not known",
            TrainedOtherwise,
            stacklevel=2,
        )


def _dtype(modules: Mapping[str, Module]) -> str:
    """The dtype that all alphas have, "" for several."""
    found = {alphas.dtype_of(module.file, module.keys[ALPHA]) for module in modules.values() if module.has(ALPHA)}
    return found.pop() if len(found) == 1 else ""
