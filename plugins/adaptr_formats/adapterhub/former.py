"""What older transformers, which AdapterHub's library runs on, calls the modules of a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr_formats.adapterhub.models import MODELS

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter, Target

#: Fields of a target's configuration that are modules.
_PATHS = ("reads", "calls")
_END = ".weight"


def names(model: nn.Module) -> dict[str, str]:
    """Those of its modules that were called otherwise, with what they were called: as its checkpoints still are."""
    import torch

    try:
        from transformers.core_model_loading import revert_weight_conversion
    except ImportError:
        return {}
    if not hasattr(model, "config") or not hasattr(model, "base_model_prefix"):
        return {}
    paths = [path for path, _ in model.named_modules() if path]
    sized = {f"{path}{_END}": torch.empty(number, device="meta") for number, path in enumerate(paths)}
    found = {paths[len(one)]: name.removesuffix(_END) for name, one in revert_weight_conversion(model, sized).items()}
    known = MODELS.get(str(getattr(model.config, "model_type", "")))
    before = known.prefix if known else ""
    whole = {path: name if name.startswith(before) else before + name for path, name in found.items()}
    return {path: name for path, name in whole.items() if path != name}


def called(adapter: Adapter, former: Mapping[str, str]) -> Adapter:
    """`adapter` at the places as they were called."""
    found = adapter.renamed(former) if former else adapter
    return found.replace(targets={path: _called(target, former) for path, target in found.targets.items()})


def _called(target: Target, former: Mapping[str, str]) -> Target:
    said: dict[str, Any] = {name: former.get(target.config[name]) for name in _PATHS if name in target.config}
    new = {name: path for name, path in said.items() if path}
    return dataclasses.replace(target, config={**target.config, **new}) if new else target
