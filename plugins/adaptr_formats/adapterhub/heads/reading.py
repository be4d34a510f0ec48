"""The head in a folder, as what an adapter has of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ForeignError, TargetNotFound, WeightsIgnored, shown
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces.module import Layer, Whole, complete
from adaptr.foreign.stored import contents
from adaptr.foreign.weights import Weights
from adaptr.untrusted import json_file
from adaptr_formats.adapterhub.heads import layouts, matching
from adaptr_formats.adapterhub.heads.matching import Tensors

if TYPE_CHECKING:
    from torch import nn

    from adaptr.foreign.format import BaseModel

CONFIG = "head_config.json"
FILES = ("model_head.safetensors", "pytorch_model_head.bin")
#: The method that adds a bias where the model has none, and what a part of an adapter is called that does.
METHOD, PART = "scale-shift", "head"


@dataclass(frozen=True)
class Head:
    """What of an adapter a head is. `files`: the names of those that it came from; `of`: the class of model that has
    it, and `said`, its configuration, for the way back; `ties`: parameters of the model that are one, of which it has
    one.
    """

    found: Sequence[Layer | Whole] = ()
    files: tuple[str, ...] = ()
    of: str = ""
    said: Mapping[str, Any] = field(default_factory=dict)
    ties: tuple[tuple[str, ...], ...] = ()


def read(folder: Path, base: BaseModel | None, model: nn.Module | None) -> Head:
    """What of the head in a folder the model has a place for.

    Warns (`WeightsIgnored`) where it is left out of a model for a task, with the reason.
    """
    files = tuple(one for one in FILES if (folder / one).is_file())
    if base is None or model is None or type(model).__name__ not in layouts.LAYOUTS:
        return Head()
    if not (files and (folder / CONFIG).is_file()):
        return Head()
    whole, tensors = json_file(folder / CONFIG, ForeignError), Tensors(*contents(folder / files[0])[:2])
    said = whole.get("config")
    own = said if isinstance(said, dict) else {}
    named = not own and whole.get("model_class") == type(model).__name__
    found, why = _named(model, tensors) if named else _laid(model, own, tensors)
    apart = any(one.is_apart(_settings(model)) for one in layouts.LAYOUTS[type(model).__name__])
    if why:
        warnings.warn(f"the head in `{folder}` is left out: {why}", WeightsIgnored, stacklevel=4)
        return Head()
    ties = {} if apart else {path: tie for tie in _ties(model) for path in tie}
    paths = {one.path for one in found if isinstance(one, Whole)}
    kept = [one for one in found if isinstance(one, Layer) or not _is_own(one, ties.get(one.path, ()), base)]
    return Head(kept, files, type(model).__name__, own, tuple(sorted({ties[path] for path in paths & set(ties)})))


_Found = tuple[list[Layer | Whole], str]


def _settings(model: nn.Module) -> dict[str, Any]:
    return layouts.settings(getattr(model, "config", None))


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    every = [*model.named_parameters(remove_duplicate=False), *model.named_buffers()]
    return {name: tuple(value.shape) for name, value in every}


def _named(model: nn.Module, tensors: Tensors) -> _Found:
    """A head with the model's own names, and why it is none of it."""
    own = _shapes(model)
    for key, shape in tensors.shapes.items():
        if own.get(key) != shape:
            return [], f"it has `{shown(key)}` of shape {shape}, and the model {own.get(key) or 'none'}"
    return [Whole(key, Piece("", shape, value=tensors.file[key])) for key, shape in tensors.shapes.items()], ""


def _laid(model: nn.Module, said: Mapping[str, Any], tensors: Tensors) -> _Found:
    """A head of AdapterHub's, and why the model has none like it."""
    settings = _settings(model)
    layout, why = matching.chosen(layouts.LAYOUTS[type(model).__name__], said, settings, tensors, _shapes(model))
    return ([], why) if layout is None else (list(_taken(layout, layout.factor(settings), tensors)), "")


def _taken(layout: layouts.Layout, factor: float, tensors: Tensors) -> Iterator[Layer | Whole]:
    import torch

    keys, weight, bias = tensors.keys(layout), f"{layout.last}.weight", f"{layout.last}.bias"
    for path, key in keys.items():
        value = tensors.file[key] if path != weight or factor == 1 else tensors.file[key] * factor
        if path != bias or layout.bias:
            yield Whole(path, Piece("", tensors.shapes[key], value=value))
    out, into = tensors.shapes[keys[weight]]
    if layout.bias and bias not in keys:
        yield Whole(bias, Piece("", (out,), value=torch.zeros(out)))
    if bias in keys and not layout.bias:
        own = {"s": torch.ones(out), "t": tensors.file[keys[bias]]}
        target = Target(layout.last, kinds.LINEAR, (out, into), complete(METHOD, {"shift": "always"}))
        yield Layer(METHOD, target, {name: Piece("", (out,), value=value) for name, value in own.items()})


def _ties(model: nn.Module) -> tuple[tuple[str, ...], ...]:
    from adaptr.host import base_of

    return base_of(model, {}).ties


def _is_own(one: Whole, tied: Sequence[str], base: BaseModel) -> bool:
    """Whether the base has that very value, in one of the places that the model ties."""
    import torch

    value, weights = one.piece.value, Weights(base)
    if value is None or value.ndim < 2:
        return False
    for path in tied:
        try:
            found = weights.parameter(path)
        except TargetNotFound:
            continue
        return found.shape == value.shape and torch.equal(found.to(value), value)
    return False
