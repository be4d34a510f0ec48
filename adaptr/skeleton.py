"""A base model without its weights, from a folder's `config.json`: enough to know which modules it has."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.errors import CheckpointError, MissingExtra, UsageError

if TYPE_CHECKING:
    from torch import nn


def skeleton(base: nn.Module | str | os.PathLike[str]) -> nn.Module:
    """`base` itself if it is a live model; else its class built on the meta device.

    Raises `CheckpointError` where the folder does not say what the model is, `MissingExtra` without transformers.
    """
    from torch import nn

    if isinstance(base, nn.Module):
        return base
    if not isinstance(base, str | os.PathLike):
        raise UsageError(f"a base is a folder or a live model, not a {type(base).__name__}")
    described(base)
    return _built(Path(base))


def imagined(config: Mapping[str, Any]) -> nn.Module:
    """The class of a configuration that lies nowhere, built on the meta device. Raises as `skeleton` does."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return _built(Path(folder))


def described(base: str | os.PathLike[str]) -> Mapping[str, Any]:
    """The `config.json` of a base's folder. Raises `CheckpointError` where there is none."""
    path = Path(base) / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise CheckpointError(f"`{base}` has no readable `config.json`, so it doesn't say what the base is") from None
    return found if isinstance(found, dict) else {}


def _built(folder: Path) -> nn.Module:
    import torch

    try:
        import transformers
    except ImportError:
        raise MissingExtra("knowing a base's modules needs transformers: `pip install 'adaptr[train]'`") from None
    try:
        # code that came with the weights is not run, nor asked about
        config: Any = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        cls = getattr(transformers, (getattr(config, "architectures", None) or [""])[0], None)
        with torch.device("meta"):
            made: nn.Module = cls._from_config(config) if cls else transformers.AutoModel.from_config(config)
    except (ValueError, OSError, LookupError, TypeError, AttributeError, RuntimeError, ImportError) as error:
        raise CheckpointError(f"`{folder}/config.json` describes no known model: {error}") from None
    return made
