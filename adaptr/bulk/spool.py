"""Tensors that don't fit into memory together: kept in a file without a name, read again one by one."""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.checkpoint.stream import write_all
from adaptr.format.io import Stored, dtype_shape, raw_bytes, torch_dtype

if TYPE_CHECKING:
    from torch import Tensor

#: Smaller tensors are kept in memory.
SMALL = 1 << 16


class Spool(Mapping[str, "Tensor"]):
    """A mapping that takes tensors from several threads. The file goes when nobody uses it any more."""

    def __init__(self, folder: Path | None = None) -> None:
        where = folder if folder is not None and folder.is_dir() else None
        self._file = tempfile.TemporaryFile(dir=where)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._places: dict[str, tuple[int, str, tuple[int, ...]]] = {}
        self._small: dict[str, Tensor] = {}
        self._end, self._lock = 0, threading.Lock()

    def put(self, key: str, tensor: Tensor) -> None:
        if tensor.numel() * tensor.element_size() <= SMALL:
            self._small[key] = tensor
            return
        data = raw_bytes(tensor)
        with self._lock:
            at, self._end = self._end, self._end + len(data)
            self._places[key] = (at, *dtype_shape(tensor))
        write_all(self._file.fileno(), at, data)

    def __getitem__(self, key: str) -> Tensor:
        import torch

        if key in self._small:
            return self._small[key]
        at, dtype, shape = self._places[key]
        found = torch.empty(shape, dtype=torch_dtype(dtype))
        view, done = raw_bytes(found), 0
        while done < len(view):
            done += os.preadv(self._file.fileno(), [view[done:]], at + done)
        return found

    def stored(self, key: str) -> Stored:
        """A tensor's dtype, shape and bytes, which are read when they are asked for."""
        dtype, shape = dtype_shape(self._small[key]) if key in self._small else self._places[key][1:]
        return dtype, shape, (raw_bytes(self[key]) for _ in range(1))

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self._small, *self._places}))

    def __len__(self) -> int:
        return len(self._small) + len(self._places)
