"""A model of a configuration, without weights."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.errors import CheckpointError, phrases, shown

if TYPE_CHECKING:
    from torch import nn


def imagined(config: Mapping[str, Any]) -> nn.Module:
    """The class of a configuration that lies nowhere, built on the meta device. Raises as `built` does."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return built(Path(folder))


def built(folder: Path) -> nn.Module:
    """The class that a folder's `config.json` names, on the meta device.

    Raises `CheckpointError` where that is no known model, `MissingExtra` without transformers.
    """
    import torch

    try:
        import transformers
    except ImportError:
        raise phrases.extra("knowing a base's modules", "transformers", "train") from None
    try:
        # code that came with the weights is not run, nor asked about
        config: Any = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        with torch.device("meta"):
            made: nn.Module = _class(config)(config)
    except Exception as error:  # transformers raises whatever the configuration leads it to
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"the configuration of the base describes no known model: {shown(reason, 200)}",
            hint="load the model, and give it instead of its folder",
        ) from None
    return made


def _class(config: object) -> Callable[[Any], Any]:
    """What makes a model of a configuration: the class that it names, or its plain model."""
    import transformers

    named = next(iter(getattr(config, "architectures", None) or []), "")
    cls = getattr(transformers, named, None)
    found: Callable[[Any], Any] = getattr(cls, "_from_config", transformers.AutoModel.from_config)
    return found
