"""What a PEFT folder holds: its configuration, and its tensors mapped on demand."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.errors import (
    ConfigConflict,
    ConfigMissing,
    ForeignError,
    NoAdapterTensors,
    TensorUnknown,
    UnsafePickle,
)
from adaptr.foreign import detect
from adaptr.foreign.peft import keys, told
from adaptr.foreign.peft.table import PROMPT_TYPES
from adaptr.foreign.weights import Weights
from adaptr.format.io import open_tensors, opened

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


@dataclass(frozen=True)
class Source:
    """A PEFT adapter as it is stored. `shapes`: of all tensors, by key, without loading them. `about`: what adaptr
    wrote into it, `told`: what others did. `weights`: the base's.
    """

    path: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    shapes: Mapping[str, tuple[int, ...]]
    keys: tuple[keys.Key, ...]
    about: Mapping[str, Any]
    told: Mapping[str, Any]
    weights: Weights | None = None


def locate(path: Path) -> Path | None:
    """The weights at `path`, a folder or a file with its configuration beside; None if it is not PEFT's."""
    if path.is_dir():
        return next((path / name for name in WEIGHTS if (path / name).is_file()), None)
    named = path.suffix in {".safetensors", ".bin", ".pt", ".pth"}
    config = detect.config_of(path.parent) if path.is_file() and named else None
    return path if config is not None and "peft_type" in config and not detect.is_adaptr(path) else None


def read(path: Path, base: Any = None) -> Source:
    """Open the adapter at `path`, for `base`. Tensors stay on the disk until asked for, except in a `.bin`."""
    weights = locate(path)
    assert weights is not None, "asked to read what was not detected"
    config = detect.config_of(weights.parent)
    tensors, shapes, metadata = _open(weights)
    if not shapes:
        raise NoAdapterTensors(f"`{weights}` holds no tensor at all")
    detect.of_keys(shapes, weights)  # refuses files of scales only, whatever the configuration says
    if config is None:
        raise ConfigMissing(
            f"`{weights}` has no `{detect.CONFIG}` beside it, and its tensors don't say how to use them"
        )
    if not isinstance(config.get("peft_type"), str):
        raise ConfigMissing(
            f"`{weights.parent / detect.CONFIG}` has no `peft_type`, so nothing says what the tensors mean"
        )
    return Source(
        weights,
        config,
        tensors,
        shapes,
        tuple(keys.read(shapes, config["peft_type"] in PROMPT_TYPES)),
        _about(metadata),
        told.beside(weights.parent, metadata),
        None if base is None else Weights(base),
    )


def _about(metadata: Mapping[str, str]) -> Mapping[str, Any]:
    try:
        found = json.loads(metadata.get(told.ABOUT, "{}"))
    except (ValueError, RecursionError):
        raise ForeignError(f"the `{told.ABOUT}` entry of the file's metadata is not JSON") from None
    return found if isinstance(found, dict) else {}


def _open(weights: Path) -> tuple[Mapping[str, Any], dict[str, tuple[int, ...]], Mapping[str, str]]:
    with opened(weights) as file:
        first = file.read(512)
    detect.refuse_pointer(weights, first)
    if weights.suffix == ".safetensors" or first[8:9] == b"{":
        found = open_tensors(weights)
        return found, {key: entry.shape for key, entry in found.header.entries.items()}, found.header.metadata
    tensors = _unpickled(weights)
    return tensors, {key: tuple(tensor.shape) for key, tensor in tensors.items()}, {}


def _unpickled(weights: Path) -> dict[str, Any]:
    """The tensors of a torch file, loaded by torch's restricted reader, which executes nothing."""
    import pickle

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old pickles load or not; that they are old helps nobody
            found = torch.load(weights, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n")[0]
        raise UnsafePickle(
            f"`{weights}` needs more than plain tensors to be loaded, so it was not ({reason}); "
            "if you trust it, load and save it again as safetensors with the tool that wrote it"
        ) from None
    except (RuntimeError, EOFError, ValueError, OSError, KeyError, TypeError, AttributeError, IndexError) as error:
        reason = str(error).split("\n")[0][:120] or type(error).__name__
        raise ForeignError(f"`{weights}` is cut off or damaged: {reason}") from None
    if not isinstance(found, dict):
        raise ConfigConflict(f"`{weights}` holds a {type(found).__name__}, wanted named tensors")
    odd = next((key for key, value in found.items() if not isinstance(value, torch.Tensor)), None)
    if odd is not None:
        raise TensorUnknown(f"`{odd}` in `{weights}` is a {type(found[odd]).__name__}, wanted a tensor")
    return {str(key): value for key, value in found.items()}
