"""What AdapterHub's configurations need of a base, and an adapter does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr_formats.adapterhub import models, places
from adaptr_formats.adapterhub.heads import layouts

if TYPE_CHECKING:
    from torch import nn


def facts(model: nn.Module) -> dict[str, Any]:
    """Its type, width, layers, by their number or, where they do not count from the first to the last, their paths, the
    modules that have a bias, its class, and what its configuration says of heads.
    """
    from adaptr.targets import hidden_size, text_config

    own = str(getattr(getattr(model, "config", None), "model_type", ""))
    layers = [name for name, _ in model.named_modules() if name and places.divided(name) == (name, "")]
    return {
        "model_type": own if own in models.MODELS else str(getattr(text_config(model), "model_type", "")),
        "hidden_size": hidden_size(model),
        "layers": len(layers) if [_number(layer) for layer in layers] == [*range(len(layers))] else layers,
        "biased": [name.removesuffix(".bias") for name, _ in model.named_parameters() if name.endswith(".bias")],
        "class": type(model).__name__,
        "settings": layouts.settings(getattr(model, "config", None)),
    }


def _number(layer: str) -> int:
    return int(layer.rpartition(".")[2])
