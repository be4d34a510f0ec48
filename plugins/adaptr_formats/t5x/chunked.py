"""An array of zarr's (version 2) as TensorStore writes those of T5X: `.zarray`, and beside it a file a chunk."""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.errors import ForeignError, TensorAbsent, Unsupported, phrases, shown
from adaptr.foreign import npz
from adaptr.untrusted import json_file, whole

if TYPE_CHECKING:
    from torch import Tensor

SETTINGS = ".zarray"
#: Bytes of an array or a chunk, chunks, and axes, at most; and bytes of a chunk however few it is packed in.
_LIMIT, _MOST, _AXES, _SMALL = 1 << 30, 1 << 16, 8, 1 << 24
_DTYPES = {"<f2": "float16", "bfloat16": "bfloat16", "<f4": "float32", "<f8": "float64"}
#: What its chunks are packed by, to how zlib is told so.
_PACKINGS = {"gzip": 31, "zlib": 15}


@dataclass(frozen=True)
class _Said:
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    window: int
    between: str

    @classmethod
    def of(cls, file: Path) -> _Said:
        """Raises a `ForeignError` for what can't be read, `Unsupported` for how arrays can lie otherwise."""
        said = json_file(file, ForeignError)
        shape, chunks = (_sizes(said, name) for name in ("shape", "chunks"))
        if len(shape) != len(chunks) or 0 in shape:
            raise ForeignError(f"`{file}` is of {shape} in chunks of {chunks}", hint=phrases.AGAIN)
        packing = said.get("compressor")
        kind = packing.get("id") if isinstance(packing, dict) else packing
        known = kind is None or (isinstance(kind, str) and kind in _PACKINGS)
        between, dtype = said.get("dimension_separator", "."), said.get("dtype")
        plain = said.get("zarr_format") == 2 and said.get("order") == "C" and not said.get("filters")
        if not known or not plain or between not in (".", "/") or not isinstance(dtype, str) or dtype not in _DTYPES:
            raise Unsupported(
                f"`{file}` is of zarr {shown(str(said.get('zarr_format')))}, {shown(str(dtype))}, packed by "
                f"{shown(str(kind))}, in the order {shown(str(said.get('order')))}",
                want="zarr 2 of floats in the order C, packed by gzip, zlib or nothing, as T5X has them",
                hint="`extract_variable` of prompt-tuning makes an array of numpy's of it",
            )
        return cls(shape, chunks, _DTYPES[dtype], _PACKINGS.get(str(kind), 0), between)


def _sizes(said: Mapping[str, Any], name: str) -> tuple[int, ...]:
    found = said.get(name)
    sizes = found if isinstance(found, list) and len(found) <= _AXES else [None]
    if not all(type(size) is int and 0 <= size <= _LIMIT for size in sizes):
        raise ForeignError(f"`{name}` in `{SETTINGS}` is {shown(str(found))}, and no list of sizes", hint=phrases.AGAIN)
    if name == "chunks" and 0 in sizes:
        raise ForeignError(f"`{name}` in `{SETTINGS}` has a 0", hint=phrases.AGAIN)
    return tuple(sizes)


def array(folder: Path) -> Tensor:
    """Raises a `ForeignError` for what is damaged or a bomb, `TensorAbsent` for a chunk that is missing."""
    import torch

    said = _Said.of(folder / SETTINGS)
    dtype: torch.dtype = getattr(torch, said.dtype)
    grid = [range(math.ceil(size / each)) for size, each in zip(said.shape, said.chunks, strict=True)]
    size = dtype.itemsize * math.prod(said.chunks)
    if dtype.itemsize * math.prod(said.shape) > _LIMIT or size > _LIMIT or math.prod(map(len, grid)) > _MOST:
        raise ForeignError(f"`{folder}` would be of {said.shape} in chunks of {said.chunks}", want="a prompt")
    found = torch.empty(said.shape, dtype=dtype)
    for at in itertools.product(*grid):
        raw = bytearray(_chunk(folder / said.between.join(map(str, at)), said.window, size))
        part = torch.frombuffer(raw, dtype=dtype).reshape(said.chunks)
        here = found[tuple(slice(i * each, (i + 1) * each) for i, each in zip(at, said.chunks, strict=True))]
        here.copy_(part[tuple(slice(0, n) for n in here.shape)])
    return found


def _chunk(file: Path, window: int, size: int) -> bytes:
    if not file.is_file():
        raise TensorAbsent(f"there is no chunk `{file}`", hint=phrases.FETCH)
    raw = whole(file, _LIMIT)
    if size > npz.MOST * len(raw) + _SMALL:
        raise ForeignError(f"`{file}` would be {size} bytes out of {len(raw)}, as no weights are", hint=phrases.FETCH)
    unpacked = zlib.decompressobj(window) if window else None
    try:
        found = unpacked.decompress(raw, size + 1) if unpacked else raw
    except zlib.error as error:
        raise ForeignError(f"`{file}` is damaged: {error}", hint=phrases.FETCH) from None
    if len(found) == size and unpacked and not unpacked.eof:
        raise ForeignError(f"`{file}` ends too early", hint=phrases.FETCH)
    if len(found) != size:
        raise ForeignError(f"`{file}` has {len(found)} bytes", want=f"{size}, those of a chunk", hint=phrases.FETCH)
    return found


def files(folder: Path) -> tuple[Path, ...]:
    """All that the array lies in."""
    return tuple(sorted(one for one in folder.rglob("*") if one.is_file()))
