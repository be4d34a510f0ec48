"""The safetensors header, read and written by the book: 8 bytes of length, JSON, tensor bytes without holes.

Written for untrusted input: every rule has its own error, and nothing is allocated on the say-so of the file.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, NamedTuple

from adaptr import errors as e
from adaptr import untrusted
from adaptr.errors import shown
from adaptr.format import again

MAX_HEADER = 100 * 1000 * 1000
MAX_KEY = 1024
MAX_DIMS = 64
MAX_INT = 2**63 - 1

#: dtype name to bits an element.
DTYPES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
FIELDS = frozenset({"dtype", "shape", "data_offsets"})


class Entry(NamedTuple):  # a tuple: made three times faster than a frozen dataclass, and there are thousands
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


#: The metadata key of an adaptr file's manifest, and how keys of tensors begin that training alone needs.
MANIFEST, MEMORY = "adaptr", "training/"


@dataclass(frozen=True, slots=True)
class Header:
    """A parsed header. `data` is the file offset of the data section. `memory`: of an adaptr file, what is no part of
    the adapter but what its method keeps between steps of training, without the prefix.
    """

    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    data: int
    memory: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """The size that the file must have."""
        every = (*self.entries.values(), *self.memory.values())
        return self.data + max((entry.stop for entry in every), default=0)

    def in_order(self) -> list[str]:
        """The keys of all tensors, as they lie in the file."""
        every = {**self.entries, **{MEMORY + key: entry for key, entry in self.memory.items()}}
        return sorted(every, key=lambda key: (every[key].start, every[key].stop))


# ---------------------------------------------------------------- reading


def read(file: BinaryIO, size: int) -> Header:
    """Read and check the header at the start of `file`, which has `size` bytes in all."""
    first = file.read(8)
    if len(first) < 8:
        raise e.HeaderTruncated("the file", verb="has", got=f"{len(first)} bytes", want="8 bytes of header length")
    (length,) = struct.unpack("<Q", first)
    if length > MAX_HEADER:
        raise e.HeaderTooLarge(
            "the header", verb="has", got=f"{length} bytes, as it says", want=f"at most {MAX_HEADER}"
        )
    raw = file.read(length) if 8 + length <= size else b""
    if len(raw) < length:
        raise e.HeaderTruncated(f"the header wants {length} bytes, {max(size - 8, 0)} follow")
    header = parse(raw, 8 + length)
    end = header.end
    if end > size:
        raise e.DataTruncated(
            f"cut short: the tensors end at byte {end}, the file at {size}", hint="fetch or copy it again"
        )
    if end < size:
        raise e.DataTrailing(f"{size - end} bytes follow the last tensor")
    return header


def parse(raw: bytes, data: int) -> Header:
    """Check the JSON of a header. `data` is where the data section will start."""
    metadata, entries = _in_two(raw) or _whole(raw)
    if f'"{MEMORY}'.encode() not in raw or MANIFEST not in metadata:
        return Header(entries, metadata, data)
    memory = {key.removeprefix(MEMORY): entry for key, entry in entries.items() if key.startswith(MEMORY)}
    weights = {key: entry for key, entry in entries.items() if not key.startswith(MEMORY)}
    return Header(weights, metadata, data, memory)


def prefixed(header: Header, prefix: str) -> Header:
    """The same tensors, with something before their names."""
    if not prefix:
        return header
    return replace(header, entries={f"{prefix}{name}": entry for name, entry in header.entries.items()})


def _whole(raw: bytes) -> tuple[dict[str, str], dict[str, Entry]]:
    document = load_json(raw)
    _no_surrogates(document)
    return _metadata(document.pop("__metadata__", {})), _entries(document)


def _in_two(raw: bytes) -> tuple[dict[str, str], dict[str, Entry]] | None:
    """Metadata and tensors, each read by itself; None where only the whole says whether, and what, is wrong.

    Files of one structure differ in their metadata alone, so their tensors are read once. Where is cut is a guess, but
    two JSON objects, the second not empty, are one when a comma replaces the braces between them: nothing is trusted.
    """
    cut = raw.find(b'"},"') + 2
    if not raw.startswith(b'{"__metadata__":') or cut < 2 or len(raw) > again.KEPT:
        return None
    try:
        entries = _read_before(b"{" + raw[cut + 1 :].rstrip(b" "))
        if entries is None or "__metadata__" in entries:
            return None
        first = load_json(raw[:cut] + b"}")
        if first.keys() != {"__metadata__"}:
            return None
        return _metadata(first["__metadata__"]), dict(entries)
    except e.FormatError:
        return None


@again.again
def _read_before(raw: bytes) -> dict[str, Entry]:
    """The tensors of a header without metadata. Not to be changed: others get the same."""
    document = load_json(raw)
    _no_surrogates(document)
    return _entries(document)


def _entries(document: Mapping[str, Any]) -> dict[str, Entry]:
    entries = {key: _entry(key, value) for key, value in document.items()}
    _contiguous(entries)
    return entries


def load_json(raw: bytes) -> dict[str, Any]:
    """A JSON object from bytes: strict about UTF-8, duplicates, depth and what a number is."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise e.HeaderNotUtf8(f"byte {error.start} of the header is not UTF-8") from None
    if not text.startswith("{"):
        raise e.HeaderNotJson("the header does not start with `{`")
    try:
        document: dict[str, Any] = untrusted.loads(text)
    except untrusted.TooDeep:
        raise e.HeaderTooDeep("the header nests too deep") from None
    except untrusted.Repeated as error:
        raise e.KeyDuplicate(str(error)) from None
    except ValueError as error:
        raise e.HeaderNotJson(f"the header is not JSON: {error}") from None
    return document


def _no_surrogates(texts: Iterable[str]) -> None:
    # JSON can write half of a surrogate pair as an escape; no file system, log or digest could carry it
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise e.HeaderNotUtf8(f"`{shown(error.object[error.start])}` is half of a surrogate pair") from None


def _metadata(value: object) -> dict[str, str]:
    if value is None:  # so MLX writes that there is none, and safetensors reads it
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise e.MetadataInvalid("`__metadata__` is no map", want="a map from strings to strings")
    _no_surrogates([*value, *value.values()])
    return value


def _entry(key: str, value: object) -> Entry:
    if len(key) > MAX_KEY:
        raise e.KeyTooLong(
            f"the key `{shown(key)}`", verb="has", got=f"{len(key)} characters", want=f"at most {MAX_KEY}"
        )
    if not isinstance(value, dict) or value.keys() != FIELDS:
        raise e.EntryMalformed(f"`{shown(key)}` is no entry of a tensor", want="{dtype, shape, data_offsets}")
    bits = _bits(key, value["dtype"]) * _numel(key, value["shape"])
    start, stop = _span(key, value["data_offsets"])
    if bits != (stop - start) * 8:
        raise e.SizeMismatch(
            f"`{shown(key)}` is {value['dtype']} of shape {shown(value['shape'])}, and its offsets",
            verb="span",
            got=stop - start,
            want=f"{bits // 8} bytes",
        )
    return Entry(value["dtype"], tuple(value["shape"]), start, stop)


def _bits(key: str, dtype: object) -> int:
    bits = DTYPES.get(dtype) if isinstance(dtype, str) else None
    if bits is None:
        raise e.DtypeUnknown(f"`{shown(key)}` has the dtype `{shown(dtype)}`", hint=f"known: {', '.join(DTYPES)}")
    return bits


def _numel(key: str, shape: object) -> int:
    # the rank is limited before the product is taken: a product of a million large numbers takes hours
    good = isinstance(shape, list) and len(shape) <= MAX_DIMS and _naturals(shape)
    count = math.prod(shape) if isinstance(shape, list) and good else MAX_INT + 1
    if count > MAX_INT:
        raise e.ShapeInvalid(
            f"`{shown(key)}`", verb="has", got=f"the shape {shown(shape)}", want=f"up to {MAX_DIMS} natural numbers"
        )
    return count


def _span(key: str, offsets: object) -> tuple[int, int]:
    if not isinstance(offsets, list) or len(offsets) != 2 or not _naturals(offsets):
        raise e.OffsetsInvalid(f"`{shown(key)}` has the offsets {shown(offsets)}", want="two natural numbers")
    start, stop = offsets
    if start > stop:
        raise e.OffsetsInvalid(f"`{shown(key)}` starts at {start} and stops at {stop}")
    return start, stop


def _naturals(values: list[Any]) -> bool:
    for n in values:  # noqa: SIM110  a generator would take half the time of reading a header
        if type(n) is not int or not 0 <= n <= MAX_INT:
            return False
    return True


def _contiguous(entries: Mapping[str, Entry]) -> None:
    at, before = 0, ""
    for start, stop, key in sorted((entry.start, entry.stop, key) for key, entry in entries.items()):
        if start < at:
            raise e.OffsetsOverlap(f"`{shown(key)}` starts at {start}, inside `{shown(before)}` which ends at {at}")
        if start > at:
            raise e.OffsetsHole(f"bytes {at} to {start}, before `{shown(key)}`, belong to no tensor")
        at, before = stop, key


# ---------------------------------------------------------------- writing


def build(shapes: Mapping[str, tuple[str, tuple[int, ...]]], metadata: Mapping[str, str]) -> tuple[bytes, Header]:
    """The bytes of a header for tensors {key: (dtype, shape)}, and what a reader of them gets.

    Tensors are laid out by falling element size, then key, so that all are aligned; the JSON is in the same order,
    padded with spaces to a multiple of 8. Raises what a reader of it would raise.
    """
    document: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    at = 0
    for key in sorted(shapes, key=lambda key: (-DTYPES[shapes[key][0]], key)):
        dtype, shape = shapes[key]
        stop = at + math.prod(shape) * DTYPES[dtype] // 8
        document[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, stop]}
        at = stop
    raw = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    raw += b" " * (-len(raw) % 8)
    if len(raw) > MAX_HEADER:
        raise e.HeaderTooLarge("the header", verb="would have", got=f"{len(raw)} bytes", want=f"at most {MAX_HEADER}")
    return struct.pack("<Q", len(raw)) + raw, parse(raw, 8 + len(raw))
