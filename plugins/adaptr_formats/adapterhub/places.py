"""From the paths of AdapterHub's tensors to places in a model."""

from __future__ import annotations

import re

from adaptr.errors import TensorUnknown, Unsupported, phrases, shown
from adaptr_formats.adapterhub.layouts import Model, Place
from adaptr_formats.adapterhub.models import MODELS, REFUSED

#: T5's blocks have layers of their own in them: the first is meant.
_LAYER = re.compile(r"(?P<layer>(?:.*?\.)?(?:albert_layers|block|layers?|h)\.\d+)(?:\.(?P<rest>.+))?", re.DOTALL)


def model(model_type: str) -> Model:
    """Raises `Unsupported` for a model that is not known here."""
    if model_type in REFUSED:
        raise Unsupported(
            f"adaptr has no place for AdapterHub's bottlenecks in a model of type `{model_type}`: "
            f"{REFUSED[model_type]}",
            hint="LoRA, (IA)3 and interventions of such a model are read",
        )
    if model_type not in MODELS:
        raise Unsupported(
            f"adaptr doesn't know where AdapterHub has its bottlenecks in a model of type `{shown(model_type)}`",
            hint=f"it knows {phrases.listed(MODELS)}",
        )
    return MODELS[model_type]


def divided(path: str) -> tuple[str, str]:
    """(the layer that a module is of, the rest of its path); of none, ("", the path)."""
    match = _LAYER.fullmatch(path)
    return (match["layer"], match["rest"] or "") if match else ("", path)


def joined(layer: str, rest: str) -> str:
    return f"{layer}.{rest}" if rest else layer


def place(path: str, model_type: str) -> tuple[str, Place]:
    """(layer, where the bottleneck whose tensors are at `path` works). Raises `TensorUnknown`, and as `model` does."""
    known = model(model_type)
    layer, rest = divided(path)
    found = next((one for one in known.at(layer).bottlenecks if layer and one.tensors == rest), None)
    if found is None:
        raise TensorUnknown(
            f"`{shown(path)}` is no module that has bottlenecks in a model of type `{model_type}`", hint=phrases.AGAIN
        )
    return layer, found
