"""Arrays of numbers out of `.npz` archives and `.npy` files that anybody may have written. Nothing is unpickled."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile, ZipInfo

from adaptr.errors import ForeignError, TensorUnknown, phrases, shown
from adaptr.untrusted import opened, whole

if TYPE_CHECKING:
    from torch import Tensor

#: How many times its bytes in the archive an array may have: weights hardly shrink when they are packed.
MOST = 64
#: Bytes of an array's header, at most.
_HEADER = 4096
#: How the file of an array alone begins, what it is called, as it has no name, and its bytes at most.
ARRAY, NAME = b"\x93NUMPY", "array"
_LIMIT = 1 << 30


def arrays(path: Path) -> dict[str, Tensor]:
    """All of them by name. Raises a `ForeignError` for what is damaged, packed beyond belief, or no numbers."""
    try:
        with opened(path) as file, ZipFile(file) as archive:
            _require_whole(archive, path.stat().st_size)
            return {one.filename.removesuffix(".npy"): _array(archive, one) for one in archive.infolist()}
    except ForeignError:
        raise
    except Exception as error:  # zipfile, zlib and numpy's parser raise whatever the bytes lead them to
        raise ForeignError(f"`{path}` is cut off or damaged: {shown(str(error), 120)}", hint=phrases.FETCH) from None


def array(path: Path) -> Tensor:
    """The array in a file of its own. Raises as `arrays` does."""
    raw = whole(path, _LIMIT)
    try:
        return _parsed(NAME, raw)
    except ForeignError:
        raise
    except Exception as error:  # numpy's parser raises whatever the bytes lead it to
        raise ForeignError(f"`{path}` is cut off or damaged: {shown(str(error), 120)}", hint=phrases.FETCH) from None


def _require_whole(archive: ZipFile, size: int) -> None:
    """Raises `ForeignError` for a directory that can't be true of a file of `size` bytes."""
    names = archive.namelist()
    if len(set(names)) < len(names) or sum(one.compress_size for one in archive.infolist()) > size:
        raise ForeignError("the archive's directory contradicts its bytes, or itself", hint=phrases.FETCH)


def _array(archive: ZipFile, one: ZipInfo) -> Tensor:
    if one.file_size > _HEADER + MOST * one.compress_size:
        raise ForeignError(
            f"`{shown(one.filename)}` would be {one.file_size} bytes out of {one.compress_size}, as no weights are",
            hint="get it again, from who trained it",
        )
    with archive.open(one) as file:
        return _parsed(one.filename, file.read(one.file_size))


def _parsed(name: str, raw: bytes) -> Tensor:
    import numpy as np
    import torch

    file = io.BytesIO(raw)
    head = np.lib.format.read_array_header_1_0 if np.lib.format.read_magic(file) == (1, 0) else None
    shape, by_columns, dtype = (head or np.lib.format.read_array_header_2_0)(file)
    if dtype.kind not in "fiu":
        raise TensorUnknown(f"`{shown(name)}` is an array of {shown(str(dtype))}", want="numbers", hint=phrases.AGAIN)
    size = math.prod(shape) * dtype.itemsize
    if len(raw) - file.tell() != size:
        raise ForeignError(
            f"`{shown(name)}` has {len(raw) - file.tell()} bytes, and an array of {shape} has {size}",
            hint=phrases.FETCH,
        )
    flat = np.frombuffer(raw, dtype, offset=file.tell()).astype(dtype.newbyteorder("="))
    return torch.from_numpy(flat.reshape(shape, order="F" if by_columns else "C").copy(order="C"))
