"""Adapter files: read lazily, written whole or not at all."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from adaptr import errors as e
from adaptr.adapter import Adapter, public
from adaptr.errors import phrases, shown
from adaptr.files import replacing, weights_named
from adaptr.format import header as headers
from adaptr.format import manifest as manifests
from adaptr.format.check import require_fit
from adaptr.format.header import Entry, Header
from adaptr.untrusted import opened

if TYPE_CHECKING:
    import torch
    from torch import Tensor

#: safetensors dtype to torch dtype name. What is missing here (less than a byte an element) no adaptr file may hold.
TORCH_NAMES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "F16": "float16", "BF16": "bfloat16",
    "I32": "int32", "U32": "uint32", "F32": "float32", "I64": "int64", "U64": "uint64", "F64": "float64",
    "C64": "complex64", "F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip
SAFETENSORS_NAMES = {f"torch.{name}": key for key, name in TORCH_NAMES.items()}


def torch_dtype(name: str) -> torch.dtype:
    """What torch calls the dtype that safetensors calls `name`."""
    import torch

    found: torch.dtype = getattr(torch, TORCH_NAMES[name])
    return found


#: What a tensor is on the disk: dtype, shape and bytes, a piece at a time.
Stored = tuple[str, tuple[int, ...], Iterable[bytes | bytearray | memoryview]]
PIECE = 1 << 20


class Tensors(Mapping[str, "Tensor"]):
    """The tensors of a safetensors file, read when asked for: each time a copy of its own.

    Not mapped: where a file is cut short under a map the process is killed, and where it is written over, values change
    without a word. Here both raise `FileChanged`.
    """

    def __init__(self, path: Path, header: Header, stamp: tuple[int, ...]) -> None:
        self.path, self.header, self.stamp = path, header, stamp

    def __getitem__(self, key: str) -> Tensor:
        entry = self.header.entries[key]
        return _tensor(key, entry, self._bytes(self.header.data + entry.start, entry.nbytes), 0)

    def __iter__(self) -> Iterator[str]:
        return iter(self.header.entries)

    def __len__(self) -> int:
        return len(self.header.entries)

    def __contains__(self, key: object) -> bool:
        return key in self.header.entries

    def shape(self, key: str) -> tuple[int, ...]:
        """A tensor's shape, from the header alone."""
        return self.header.entries[key].shape

    def stored(self, key: str) -> Stored:
        """A tensor's dtype, shape and bytes as they lie in the file, without torch."""
        entry = self.header.entries[key]
        return entry.dtype, entry.shape, self._pieces(self.header.data + entry.start, entry.nbytes)

    def _pieces(self, start: int, count: int) -> Iterator[bytearray]:
        for at in range(0, count, PIECE):
            yield self._bytes(start + at, min(PIECE, count - at))

    def held(self) -> dict[str, Tensor]:
        """All tensors, read at once into one piece of memory."""
        raw = self._bytes(self.header.data, self.header.end - self.header.data)
        return {key: _tensor(key, entry, raw, entry.start) for key, entry in self.header.entries.items()}

    def _bytes(self, start: int, count: int) -> bytearray:
        raw = bytearray(count)
        fd = self._descriptor()
        try:
            if _stamp(fd) != self.stamp or _read_at(fd, memoryview(raw), start) != count:
                raise e.FileChanged(f"`{self.path}` changed after its header was read", hint="load it again")
        finally:
            os.close(fd)
        return raw

    def _descriptor(self) -> int:
        """The file opened anew. There may be a pipe in its place by now, which is not waited for."""
        try:
            return os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            opened(self.path).close()  # says what is there instead
            raise


def _read_at(fd: int, into: memoryview, at: int) -> int:
    """How many bytes were there to fill `into`. The system reads at most 2 GiB at a time."""
    done = 0
    while done < len(into):
        got = os.preadv(fd, [into[done:]], at + done)
        if not got:
            break
        done += got
    return done


def _tensor(key: str, entry: Entry, raw: bytearray, at: int) -> Tensor:
    """A tensor over bytes of `raw`, or over a copy where they are not aligned."""
    import torch

    if entry.dtype not in TORCH_NAMES:
        raise e.DtypeUnknown(
            f"`{shown(key)}` has the dtype {entry.dtype}, which torch can't hold", hint="save it as a float dtype"
        )
    dtype = torch_dtype(entry.dtype)
    if not entry.nbytes:
        return torch.empty(entry.shape, dtype=dtype)
    if at % dtype.itemsize:
        raw, at = raw[at : at + entry.nbytes], 0
    count = entry.nbytes // dtype.itemsize
    return torch.frombuffer(raw, dtype=dtype, count=count, offset=at).reshape(entry.shape)


def open_tensors(path: str | os.PathLike[str], read: Callable[[BinaryIO, int], Header] = headers.read) -> Tensors:
    """The tensors of any safetensors file, header checked. `read`: what reads the header of another container."""
    with opened(Path(path)) as file:
        stamp = _stamp(file.fileno())
        try:
            header = read(file, os.fstat(file.fileno()).st_size)
        except e.HeaderError as error:
            raise error.at(path, hint=phrases.FETCH) from error
        return Tensors(Path(path), header, stamp)


def _stamp(fd: int) -> tuple[int, ...]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def read(path: str | os.PathLike[str]) -> Adapter:
    """Read an adaptr file: header and manifest at once, tensors when asked for.

    Raises a `FormatError` for each way a file can break the format. Shapes are checked against the method's table when
    the method is known here; a file of an unknown method can still be read and inspected.
    """
    tensors = open_tensors(path)
    memory = Tensors(tensors.path, replace(tensors.header, entries=tensors.header.memory), tensors.stamp)
    return from_header(tensors.header, tensors, str(path), memory)


def from_header(
    header: Header, tensors: Mapping[str, Tensor], source: str = "", memory: Mapping[str, Tensor] | None = None
) -> Adapter:
    """The adapter of a header, with all that can be checked without the weights. `memory`: None for unread."""
    document = manifests.load(header)
    kept: Mapping[str, Any] = dict.fromkeys(header.memory) if memory is None else memory
    adapter = manifests.adapter(document, tensors, source).remembering(kept)
    manifests.same(document, adapter)
    for key, entry in (*header.entries.items(), *header.memory.items()):
        if entry.dtype not in TORCH_NAMES:
            raise e.DtypeUnknown(
                f"`{shown(key)}` has the dtype {entry.dtype}, which an adaptr file may not hold",
                hint="save it as a float dtype",
            )
    require_fit(adapter, header)
    return adapter


def write(adapter: Adapter, path: str | os.PathLike[str], force: bool = False) -> Path:
    """Write an adaptr file. The same adapter gives the same bytes.

    Raises `OutputExists` unless `force`, `UsageError` for a name that says it is something else, and what `read` would
    raise of the file, before anything is written.
    """
    path = weights_named(path)
    where, adapter = Path(path), public_part(adapter)
    # a mapping that knows shapes without reading is read tensor by tensor; others may change while they are written
    tensors = adapter.tensors if hasattr(adapter.tensors, "stored") else dict(adapter.tensors)
    found = {key: stored_of(tensors, key) for key in tensors}
    found |= {headers.MEMORY + key: stored_of(adapter.memory, key) for key in adapter.memory}
    shapes = {key: (dtype, shape) for key, (dtype, shape, _) in found.items()}
    raw, header = headers.build(shapes, {manifests.KEY: manifests.dump(adapter)})
    from_header(header, tensors, str(where), adapter.memory)
    with replacing(where, force) as file:
        file.write(raw)
        for key in header.in_order():
            file.writelines(found.pop(key)[2])
    return where


def public_part(adapter: Adapter) -> Adapter:
    """The adapter without where its base lay, on this machine or on that of whom it came from."""
    base, foreign = adapter.base, public.told(adapter.foreign)
    if public.is_place(base.id):
        base = replace(base, id=public.name(base.id))
    if base == adapter.base and foreign == adapter.foreign:
        return adapter
    return adapter.replace(base=base, foreign=foreign)


def stored_of(tensors: Mapping[str, Tensor], key: str) -> Stored:
    """A tensor's dtype, shape and bytes: of its file, without torch, where it lies in one as it is."""
    look = getattr(tensors, "stored", None)
    found: Stored | None = None if look is None else look(key)
    if found is not None:
        return found
    tensor = tensors[key]
    return (*dtype_shape(tensor), (raw_bytes(tensor),))


def dtype_shape(tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    """A tensor's dtype, as safetensors calls it, and shape."""
    name = SAFETENSORS_NAMES.get(str(tensor.dtype))
    if name is None:
        raise e.DtypeUnknown(f"safetensors has no dtype for {tensor.dtype}", hint="convert it to a float dtype")
    return name, tuple(tensor.shape)


def raw_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, row-major, without a copy where it is contiguous on the CPU."""
    solid = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    if solid.numel() == 0:
        return memoryview(b"")
    buffer = (ctypes.c_char * (solid.numel() * solid.element_size())).from_address(solid.data_ptr())
    buffer.__dict__["owner"] = solid  # the memory must live as long as the view of it
    return memoryview(buffer).cast("B")
