"""A base model without its weights, of a folder's `config.json` or a GGUF file: enough to know which modules it has."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.checkpoint.astray import instead
from adaptr.checkpoint.drawn import drawn
from adaptr.checkpoint.from_gguf import configuration
from adaptr.checkpoint.open import open_checkpoint
from adaptr.checkpoint.parts import PIPELINE
from adaptr.errors import AdaptrError, CheckpointError, UsageError, phrases, shown
from adaptr.files.linked import snapshot
from adaptr.format.gguf import is_gguf
from adaptr.untrusted import json_file

if TYPE_CHECKING:
    from torch import nn


def skeleton(base: nn.Module | str | os.PathLike[str]) -> nn.Module:
    """`base` itself if it is a live model; else its class built on the meta device, or the modules of a pipeline.

    Raises `CheckpointError` where the folder does not say what the model is, `MissingExtra` without transformers.
    """
    from torch import nn

    if isinstance(base, nn.Module):
        return base
    if not isinstance(base, str | os.PathLike):
        raise UsageError("a base", got=f"a {type(base).__name__}", want="a folder or a live model")
    if (snapshot(Path(base)) / PIPELINE).is_file():
        return drawn(open_checkpoint(Path(base)))
    said = described(base)
    return imagined(said) if is_gguf(Path(base)) else _built(snapshot(Path(base)))


def imagined(config: Mapping[str, Any]) -> nn.Module:
    """The class of a configuration that lies nowhere, built on the meta device. Raises as `skeleton` does."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        return _built(Path(folder))


def described(base: str | os.PathLike[str]) -> Mapping[str, Any]:
    """The `config.json` of a base's folder, or what a GGUF file says instead. Raises `CheckpointError` without one."""
    if is_gguf(Path(base)):
        return configuration(Path(base))
    try:
        return json_file(snapshot(Path(base)) / "config.json", CheckpointError)
    except AdaptrError as error:
        raise CheckpointError(
            f"`{base}` has no readable `config.json`, so it doesn't say what the base is",
            hint=instead(Path(base)) or str(error),
        ) from None


def _built(folder: Path) -> nn.Module:
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
