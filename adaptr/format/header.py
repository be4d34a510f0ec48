"""The safetensors header, read and written by the book: 8 bytes of length, JSON, tensor bytes without holes.

Written for untrusted input: every rule has its own error, and nothing is allocated on the say-so of the file.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from adaptr import errors as e

MAX_HEADER = 100 * 1000 * 1000
MAX_KEY = 1024
MAX_ELEMENTS = 2**63 - 1

#: dtype name to bits an element.
DTYPES = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
    "C64": 64,
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor: its bytes are [start, stop) of the data section."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def numel(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed header. `data` is the file offset of the data section."""

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    data: int

    @property
    def end(self) -> int:
        """The size that the file must have."""
        return self.data + max((entry.stop for entry in self.entries.values()), default=0)


def read(file: BinaryIO, size: int) -> Header:
    """Read and check the header at the start of `file`, which has `size` bytes in all."""
    first = file.read(8)
    if len(first) < 8:
        raise e.HeaderTruncated(f"wanted 8 bytes of header length, the file has {len(first)}")
    (length,) = struct.unpack("<Q", first)
    if length > MAX_HEADER:
        raise e.HeaderTooLarge(f"the header says it has {length} bytes, the limit is {MAX_HEADER}")
    if 8 + length > size:
        raise e.HeaderTruncated(f"the header wants {length} bytes, {max(size - 8, 0)} follow")
    header = parse(file.read(length), 8 + length)
    if header.end > size:
        raise e.DataTruncated(f"the tensors end at byte {header.end}, the file at {size}")
    if header.end < size:
        raise e.DataTrailing(f"{size - header.end} bytes follow the last tensor")
    return header


def parse(raw: bytes, data: int) -> Header:
    """Check the JSON of a header. `data` is where the data section will start."""
    document = load_json(raw)
    metadata = _metadata(document.pop("__metadata__", {}))
    entries = {key: _entry(key, value) for key, value in document.items()}
    _contiguous(entries)
    return Header(entries, metadata, data)


def load_json(raw: bytes) -> dict[str, Any]:
    """A JSON object from bytes: strict about UTF-8, duplicates, depth and what a number is."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise e.HeaderNotUtf8(f"byte {error.start} of the header is not UTF-8") from None
    if not text.startswith("{"):
        raise e.HeaderNotJson("the header does not start with `{`")
    try:
        document = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise e.HeaderTooDeep("the header nests too deep") from None
    except ValueError as error:
        raise e.HeaderNotJson(f"the header is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise e.HeaderNotJson("the header is not a JSON object")
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise e.KeyDuplicate(f"the key `{twice[:80]}` appears twice")
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise e.MetadataInvalid("`__metadata__` must map strings to strings")
    return value


def _entry(key: str, value: Any) -> Entry:
    if len(key) > MAX_KEY:
        raise e.KeyTooLong(f"the key `{key[:40]}...` has {len(key)} characters, the limit is {MAX_KEY}")
    if not isinstance(value, dict) or set(value) != {"dtype", "shape", "data_offsets"}:
        raise e.EntryMalformed(f"`{key}` is not {{dtype, shape, data_offsets}}")
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise e.DtypeUnknown(f"`{key}` has the dtype {str(dtype)[:40]!r}; known: {', '.join(DTYPES)}")
    if not isinstance(shape, list) or not all(_natural(n) for n in shape) or math.prod(shape) > MAX_ELEMENTS:
        raise e.ShapeInvalid(f"`{key}` has the shape {str(shape)[:80]}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_natural(n) for n in offsets):
        raise e.OffsetsInvalid(f"`{key}` has the offsets {str(offsets)[:80]}")
    start, stop = offsets
    if start > stop:
        raise e.OffsetsInvalid(f"`{key}` starts at {start} and stops at {stop}")
    if math.prod(shape) * DTYPES[dtype] != (stop - start) * 8:
        raise e.SizeMismatch(
            f"`{key}` is {dtype} of shape {shape}, which is {math.prod(shape) * DTYPES[dtype] // 8} bytes; "
            f"its offsets span {stop - start}"
        )
    return Entry(dtype, tuple(shape), start, stop)


def _natural(n: Any) -> bool:
    return isinstance(n, int) and not isinstance(n, bool) and 0 <= n <= MAX_ELEMENTS


def _contiguous(entries: Mapping[str, Entry]) -> None:
    at, before = 0, ""
    for key, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start < at:
            raise e.OffsetsOverlap(f"`{key}` starts at {entry.start}, inside `{before}` which ends at {at}")
        if entry.start > at:
            raise e.OffsetsHole(f"bytes {at} to {entry.start}, before `{key}`, belong to no tensor")
        at, before = entry.stop, key


def build(shapes: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]) -> tuple[bytes, Header]:
    """The bytes of a header for tensors {key: (dtype, shape)}, and what a reader of them gets.

    Tensors are laid out by falling element size, then key, so that all are aligned; the JSON is in the same order, padded
    with spaces to a multiple of 8.
    """
    order = sorted(shapes, key=lambda key: (-DTYPES[shapes[key][0]], key))
    at, document = 0, {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    entries: dict[str, Entry] = {}
    for key in order:
        dtype, shape = shapes[key]
        entry = entries[key] = Entry(dtype, tuple(shape), at, at + math.prod(shape) * DTYPES[dtype] // 8)
        document[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [entry.start, entry.stop]}  # type: ignore[dict-item]
        at = entry.stop
    raw = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return struct.pack("<Q", len(raw)) + raw, Header(entries, metadata, 8 + len(raw))
