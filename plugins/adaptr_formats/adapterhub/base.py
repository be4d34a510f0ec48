"""What AdapterHub's configurations need of a base, and an adapter does not say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr_formats.adapterhub import places

if TYPE_CHECKING:
    from torch import nn


def facts(model: nn.Module) -> dict[str, Any]:
    """Its type, width, number of layers, and the modules that have a bias."""
    from adaptr.targets import hidden_size, text_config

    layers = [name for name, _ in model.named_modules() if name and places.divided(name) == (name, "")]
    return {
        "model_type": str(getattr(text_config(model), "model_type", "")),
        "hidden_size": hidden_size(model),
        "layers": len(layers),
        "biased": [name.removesuffix(".bias") for name, _ in model.named_parameters() if name.endswith(".bias")],
    }
