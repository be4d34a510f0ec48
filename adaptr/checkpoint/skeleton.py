"""A base model without its weights, of a folder's `config.json` or a GGUF file: enough to know which modules it has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.checkpoint import architectures
from adaptr.checkpoint.astray import instead
from adaptr.checkpoint.built import built, imagined
from adaptr.checkpoint.drawn import drawn
from adaptr.checkpoint.from_gguf import configuration
from adaptr.checkpoint.open import open_checkpoint
from adaptr.checkpoint.parts import PIPELINE
from adaptr.errors import AdaptrError, CheckpointError, UsageError
from adaptr.files.linked import snapshot
from adaptr.format.gguf import is_gguf
from adaptr.untrusted import json_file

if TYPE_CHECKING:
    from torch import nn

    from adaptr.contract.sketch import Sketch


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
    return imagined(said) if is_gguf(Path(base)) else built(snapshot(Path(base)))


def sketched(base: nn.Module | str | os.PathLike[str]) -> Sketch | None:
    """The same without torch and transformers, drawn where a table says what transformers would build of a folder's
    `config.json`; None for anything else.
    """
    if not isinstance(base, str | os.PathLike) or is_gguf(Path(base)):
        return None
    try:
        said = {} if (snapshot(Path(base)) / PIPELINE).is_file() else described(base)
    except AdaptrError:
        return None
    plain = said.get("architectures") and "quantization_config" not in said
    return architectures.drawn(said) if plain else None


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
