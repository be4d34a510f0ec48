"""Alphas that lie in a file as tensors of one number, read without torch."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adaptr.errors import ConfigConflict, phrases
from adaptr.foreign.same import Same

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.foreign.pieces.module import Module
    from adaptr.foreign.supplied import Supplied
    from adaptr.format.io import Stored

#: safetensors' dtypes to what `struct` calls them.
_FORMATS = {
    "F16": "<e", "F32": "<f", "F64": "<d", "I8": "<b", "I16": "<h", "I32": "<i", "I64": "<q", "U8": "<B",
    "U16": "<H", "U32": "<I", "U64": "<Q",
}  # fmt: skip


def dtype_of(tensors: Mapping[str, Any], key: str) -> str:
    """The dtype of a tensor, as safetensors calls it."""
    from adaptr.format.io import stored_of

    return stored_of(tensors, key)[0]


def number(tensors: Mapping[str, Any], key: str) -> float:
    """The one finite number of the tensor `key`. Raises `ConfigConflict` for anything else."""
    from adaptr.format.io import stored_of

    dtype, shape, pieces = stored_of(tensors, key)
    if math.prod(shape) != 1 or (dtype not in _FORMATS and dtype != "BF16"):
        raise _no_number(key, f"{dtype} of shape {shape}")
    raw = b"".join(bytes(piece) for piece in pieces)
    value = struct.unpack("<f", b"\0\0" + raw)[0] if dtype == "BF16" else struct.unpack(_FORMATS[dtype], raw)[0]
    if not math.isfinite(value):
        raise _no_number(key, str(value))
    return float(value)


def _no_number(key: str, got: str) -> ConfigConflict:
    return ConfigConflict(f"`{key}`", verb="is", got=got, want="one finite number", hint=phrases.AGAIN)


def refuse_held(modules: Iterable[Module], supplied: Supplied) -> None:
    """Raises `UsageError` where an alpha or a scale is supplied and all modules have theirs in the file."""
    if all(module.has("alpha") and number(module.file, module.keys["alpha"]) for module in modules):
        supplied.refuse("the file has the alpha of each module", "alpha", "scale")


def tensor(value: float, dtypes: Iterable[str]) -> Same:
    """`value` as a tensor of one number, in the first of `dtypes` that holds it exactly, else in F64."""
    dtype = next((dtype for dtype in dtypes if _holds(dtype, value)), "F64")
    if dtype == "BF16":
        return Same(_Number(dtype, struct.pack("<f", value)[2:]), "", ())
    return Same(_Number(dtype, struct.pack(_FORMATS[dtype], int(value) if dtype[0] in "IU" else value)), "", ())


class _Number(Mapping[str, "Tensor"]):
    """A tensor of one number by its bytes, so that nothing need have torch that only writes them."""

    def __init__(self, dtype: str, raw: bytes) -> None:
        self.dtype, self.raw = dtype, raw

    def stored(self, key: str) -> Stored:
        return self.dtype, (), (self.raw,)

    def __getitem__(self, key: str) -> Tensor:
        import torch

        from adaptr.format.io import torch_dtype

        return torch.frombuffer(bytearray(self.raw), dtype=torch_dtype(self.dtype))[0]

    def __iter__(self) -> Iterator[str]:
        yield ""

    def __len__(self) -> int:
        return 1


def _holds(dtype: str, value: float) -> bool:
    """Whether a dtype has `value` exactly."""
    if dtype == "BF16":
        return _exact("<f", value) and struct.pack("<f", value)[:2] == b"\0\0"
    form = _FORMATS.get(dtype, "")
    whole = form[1:] not in ("e", "f", "d")
    return bool(form) and (not whole or value == int(value)) and _exact(form, int(value) if whole else value)


def _exact(form: str, value: float) -> bool:
    try:
        return bool(struct.unpack(form, struct.pack(form, value))[0] == value)
    except (struct.error, OverflowError):
        return False
