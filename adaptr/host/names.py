"""Places that a newer transformers calls otherwise: an adapter follows its base to the new names.

transformers renames modules between versions (ViT's `encoder.layer.0.attention.attention.query` became
`layers.0.attention.q_proj`) and keeps the list of renamings for checkpoints; adapters outlive their base's code too.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from adaptr.adapter import Adapter
from adaptr.targets import submodule


def current(model: nn.Module, adapter: Adapter) -> Adapter:
    """`adapter` with the names that `model` has now, or as it is where those it has are right or no renaming helps."""
    paths = [path for path in (*adapter.targets, *adapter.replaced) if path]
    missing = [path for path in paths if not _has(model, path)]
    new = _renamed(model, missing) if missing else {}
    return adapter.renamed(new) if new else adapter


def _has(model: nn.Module, path: str) -> bool:
    owner, _, name = path.rpartition(".")
    try:
        module = submodule(model, owner)
    except AttributeError:
        return False
    return name in module._modules or name in module._parameters or hasattr(module, name)


def _renamed(model: nn.Module, paths: Iterable[str]) -> dict[str, str]:
    """Old path to new, where transformers knows one and the model has it."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightRenaming
    except ImportError:
        return {}
    if not hasattr(model, "config"):
        return {}
    renamings = [r for r in get_model_conversion_mapping(model) if isinstance(r, WeightRenaming)]
    found = {}
    for path in paths:
        # the patterns are those of parameters: a module's name must be seen to end
        key = f"{path}.weight"
        for renaming in renamings:
            key, _ = renaming.rename_source_key(key)
        new = key.removesuffix(".weight")
        if new != path and _has(model, new):
            found[path] = new
    return found
