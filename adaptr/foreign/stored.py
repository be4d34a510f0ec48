"""Named tensors out of files that anybody may have written: safetensors, numpy's, torch's pickles, none executed."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from adaptr.errors import ConfigConflict, ForeignError, TensorUnknown, UnsafePickle, phrases, shown
from adaptr.foreign import npz, seen
from adaptr.format.io import open_tensors
from adaptr.untrusted import opened

#: Bytes that tensors may have in any case, however few numbers they repeat.
_SMALL = 1 << 24


def contents(
    weights: Path, inside: str = "", numbered: bool = False
) -> tuple[Mapping[str, Any], dict[str, tuple[int, ...]], Mapping[str, str]]:
    """(tensors, their shapes, metadata) of a safetensors file, nothing of it loaded, or of a torch file or archive.

    `inside`: what a torch file calls its tensors, where they are not all that it holds. `numbered`: whether it may be a
    list, whose tensors are called by their numbers.

    Raises `UnsafePickle` for more than plain tensors, `LfsPointer`, and a `ForeignError` or `FormatError` for damage.
    """
    with opened(weights) as file:
        first = file.read(512)
    seen.refuse_pointer(weights, first)
    if weights.suffix == ".safetensors" or first[8:9] == b"{":
        found = open_tensors(weights)
        return found, {key: entry.shape for key, entry in found.header.entries.items()}, found.header.metadata
    tensors = _loaded(weights, first, inside, numbered)
    return tensors, {key: tuple(tensor.shape) for key, tensor in tensors.items()}, {}


def _loaded(weights: Path, first: bytes, inside: str, numbered: bool) -> dict[str, Any]:
    if first.startswith(npz.ARRAY):
        return {npz.NAME: npz.array(weights)}
    return npz.arrays(weights) if seen.Seen(weights).container == seen.NPZ else _unpickled(weights, inside, numbered)


def _unpickled(weights: Path, inside: str, numbered: bool) -> dict[str, Any]:
    return unpickled(weights, str(weights), inside, numbered)


def unpickled(file: Path | BinaryIO, weights: str, inside: str = "", numbered: bool = False) -> dict[str, Any]:
    """The tensors of a torch file called `weights`, by torch's restricted reader, which executes nothing; otherwise as
    `contents`.
    """
    import pickle

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old pickles load or not; that they are old helps nobody
            found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        called = re.search(r"GLOBAL (\S+)", str(error))  # the rest is advice to load it all the same
        reason = f" (it wants to call `{shown(called[1])}`)" if called else ""
        raise UnsafePickle(
            f"`{weights}` needs more than plain tensors to be loaded{reason}, so it was not",
            hint="if you trust it, load and save it again as safetensors with the tool that wrote it",
        ) from None
    except Exception as error:  # torch's reader raises whatever the bytes lead it to
        reason = shown(str(error).split("\n")[0], 120) or type(error).__name__
        raise ForeignError(f"`{weights}` is cut off or damaged: {reason}", hint="get it again") from None
    if inside and isinstance(found, dict):
        found = found.get(inside, found)
    if numbered and isinstance(found, list):
        found = {str(number): value for number, value in enumerate(found)}
    if not isinstance(found, dict):
        raise ConfigConflict(
            f"`{weights}`", verb="holds", got=f"a {type(found).__name__}", want="named tensors", hint=phrases.AGAIN
        )
    odd = next((key for key, value in found.items() if not isinstance(value, torch.Tensor)), None)
    if odd is not None:
        raise TensorUnknown(f"`{shown(odd)}` in `{weights}` is a {type(found[odd]).__name__}", want="a tensor")
    _require_there(found, weights)
    return {str(key): value for key, value in found.items()}


def _require_there(tensors: Mapping[str, Any], weights: str) -> None:
    """Raises `TensorUnknown` for tensors whose numbers are not in the file one by one: sparse ones, packed ones, those
    without values, and those that repeat a few until no memory holds them.
    """
    import torch

    odd = next((key for key, t in tensors.items() if t.layout != torch.strided or t.is_meta or t.is_quantized), None)
    if odd is not None:
        raise TensorUnknown(
            f"`{shown(odd)}` in `{weights}` is sparse, quantised or without values", want="a tensor of plain numbers"
        )
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors.values()}
    size, most = sum(t.numel() * t.element_size() for t in tensors.values()), npz.MOST * sum(held.values()) + _SMALL
    if size > most:
        raise TensorUnknown(
            f"the tensors of `{weights}` would be {size} bytes out of {sum(held.values())}", want="those of weights"
        )
