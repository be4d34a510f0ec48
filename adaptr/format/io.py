"""Adapter files: read lazily, written whole or not at all."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from adaptr import errors as e
from adaptr.adapter import REPLACED, Adapter, Target
from adaptr.files import replacing
from adaptr.format import header as headers
from adaptr.format import manifest as manifests
from adaptr.format.header import Header

if TYPE_CHECKING:
    from torch import Tensor

#: safetensors dtype to torch dtype name.
TORCH_NAMES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "F16": "float16", "BF16": "bfloat16",
    "I32": "int32", "U32": "uint32", "F32": "float32", "I64": "int64", "U64": "uint64", "F64": "float64",
    "C64": "complex64", "F8_E5M2": "float8_e5m2", "F8_E4M3": "float8_e4m3fn", "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip
SAFETENSORS_NAMES = {f"torch.{name}": key for key, name in TORCH_NAMES.items()}


class Tensors(Mapping[str, "Tensor"]):
    """The tensors of a safetensors file, mapped on demand and private to this process: writing to one changes no file."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path, self.header = path, header
        self._map: mmap.mmap | None = None

    def __getitem__(self, key: str) -> Tensor:
        import torch

        entry = self.header.entries[key]
        dtype = getattr(torch, TORCH_NAMES[entry.dtype])
        if entry.numel == 0:
            return torch.empty(entry.shape, dtype=dtype)
        if self._map is None:
            with open(self.path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            if len(self._map) != self.header.end:
                raise e.DataTruncated(f"`{self.path}` changed while it was read")
        offset = self.header.data + entry.start
        if offset % dtype.itemsize:
            raw = bytearray(self._map[offset : offset + entry.nbytes])
            return torch.frombuffer(raw, dtype=dtype).reshape(entry.shape)
        return torch.frombuffer(self._map, dtype=dtype, count=entry.numel, offset=offset).reshape(entry.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.header.entries)

    def __len__(self) -> int:
        return len(self.header.entries)

    def __contains__(self, key: object) -> bool:
        return key in self.header.entries

    def shape(self, key: str) -> tuple[int, ...]:
        """A tensor's shape, from the header alone."""
        return self.header.entries[key].shape

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}


def open_tensors(path: str | os.PathLike[str]) -> Tensors:
    """The tensors of any safetensors file, header checked."""
    where = Path(path)
    with opened(where) as file:
        return Tensors(where, headers.read(file, where.stat().st_size))


def opened(path: Path) -> BinaryIO:
    """Open for reading. Raises `InputError` that says what is there instead of a readable file."""
    try:
        return open(path, "rb")
    except FileNotFoundError:
        raise e.InputError(f"there is no file `{path}`") from None
    except IsADirectoryError:
        raise e.InputError(f"`{path}` is a folder, wanted a file") from None
    except PermissionError:
        raise e.MachineError(f"`{path}` may not be read") from None


def read(path: str | os.PathLike[str]) -> Adapter:
    """Read an adaptr file: header and manifest at once, tensors when asked for.

    Raises a `FormatError` for each way a file can break the format. Shapes are checked against the method's table when the
    method is known here; a file of an unknown method can still be read and inspected.
    """
    where = Path(path)
    tensors = open_tensors(where)
    document = manifests.load(tensors.header)
    adapter = manifests.adapter(document, tensors, str(where))
    check(adapter, tensors.header)
    return adapter


def check(adapter: Adapter, header: Header) -> None:
    """Every tensor belongs to a target, and every target has the tensors that its method wants."""
    found = _by_place(header)
    known = {(part, target.path) for part, target in adapter.all_targets}
    for (part, path), shapes in found.items():
        if (part, path) not in known and (part or set(shapes) != {REPLACED}):
            name = next(iter(shapes))
            raise e.TensorUnexpected(f"`{path}:{part and part + '.'}{name}` belongs to no target of the manifest")
    for part, target in adapter.all_targets:
        method, version = _method_of(adapter, part)
        _check_target(method, version, target, found.get((part, target.path), {}), bool(adapter.quantization))


def _by_place(header: Header) -> dict[tuple[str, str], dict[str, tuple[int, ...]]]:
    """{(part, path): {param: shape}}, replaced tensors under `=`."""
    found: dict[tuple[str, str], dict[str, tuple[int, ...]]] = {}
    for key, entry in header.entries.items():
        path, colon, name = key.rpartition(":")
        if not colon or not name:
            raise e.KeyMalformed(f"the key `{key}` is not `<target>:<param>`")
        part, dot, param = name.partition(".")
        if not dot or param == "scale":
            part, param = "", name
        found.setdefault((part, path), {})[param] = entry.shape
    return found


def _method_of(adapter: Adapter, part: str) -> tuple[str, int]:
    owner = adapter.parts[part] if part else adapter
    return owner.method, owner.version


def _check_target(
    method: str, version: int, target: Target, shapes: dict[str, tuple[int, ...]], quantized: bool
) -> None:
    from adaptr import plugins

    shapes = {k: v for k, v in shapes.items() if not (quantized and k.endswith(".scale")) and k != REPLACED}
    if method not in plugins.names():
        if not shapes:
            raise e.TensorMissing(f"`{target.path}` has no tensor at all")
        return
    known = plugins.method(method)
    if version > known.version:
        raise e.FormatTooNew(f"the file has `{method}` version {version}, this adaptr has {known.version}; upgrade it")
    want = known.shapes(target)
    missing, extra = sorted(set(want) - set(shapes)), sorted(set(shapes) - set(want))
    if missing:
        raise e.TensorMissing(f"`{target.path}:{missing[0]}` is missing; `{method}` has {', '.join(want)}")
    if extra:
        raise e.TensorUnexpected(f"`{target.path}:{extra[0]}` is no tensor of `{method}`, which has {', '.join(want)}")
    known.check(target, shapes)


def write(adapter: Adapter, path: str | os.PathLike[str], force: bool = False) -> Path:
    """Write an adaptr file. The same adapter gives the same bytes. Raises `OutputExists` unless `force`."""
    where = Path(path)
    tensors = dict(adapter.tensors)
    shapes = {key: dtype_shape(tensor) for key, tensor in tensors.items()}
    raw, header = headers.build(shapes, {manifests.KEY: manifests.dump(adapter)})
    check(adapter, header)
    with replacing(where, force) as file:
        file.write(raw)
        for key in header.entries:
            file.write(raw_bytes(tensors[key]))
    return where


def dtype_shape(tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    """A tensor's dtype, as safetensors calls it, and shape."""
    name = SAFETENSORS_NAMES.get(str(tensor.dtype))
    if name is None:
        raise e.DtypeUnknown(f"safetensors has no dtype for {tensor.dtype}")
    return name, tuple(tensor.shape)


def raw_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, row-major, without a copy where it is contiguous on the CPU."""
    solid = tensor.detach().cpu().contiguous()
    if solid.numel() == 0:
        return memoryview(b"")
    buffer = (ctypes.c_char * (solid.numel() * solid.element_size())).from_address(solid.data_ptr())
    buffer._keep = solid  # the memory must live as long as the view of it
    return memoryview(buffer).cast("B")
