"""The header of a GGUF file, llama.cpp's: numbers and texts by name, and where each tensor lies and in which type.

Read by the book (ggml's `docs/gguf.md`, versions 2 and 3, little-endian) and for untrusted input: without the library,
which allocates what a file says; here nothing is read that does not fit into the file, and no more than `MAX_HEADER`.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from adaptr import errors as e
from adaptr.errors import phrases, shown
from adaptr.format.header import MAX_HEADER, MAX_INT, MAX_KEY, Entry
from adaptr.untrusted import opened

MAGIC = b"GGUF"
VERSIONS = (2, 3)
#: What ggml's tensors have at most.
MAX_DIMS = 4
#: Values of an array that are kept; a vocabulary is passed over.
KEPT = 256
#: What stands for others, behind their number.
PASSED = " values"
#: Where the header says how many values there are.
VALUES = 16
ALIGNMENT, ALIGNED = "general.alignment", 32
STRING, ARRAY, BOOL = 8, 9, 7
#: The types of values to what `struct` calls them.
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", BOOL: "?", 10: "Q", 11: "q", 12: "d"}
#: The types of tensors: name, elements of a block, bytes of a block.
TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip
CODES = {name: code for code, (name, _, _) in TYPES.items()}

Value: TypeAlias = bool | int | float | str | tuple[bool | int | float | str, ...]


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """`metadata`: values by name; of an array of more than `KEPT` how many there are, in words. `entries`: with ggml's
    types as dtypes and row-major shapes, the outputs of a layer first. `data`: where the tensors begin. `places`: where
    the header says of each of which type it is and where it lies. `alignment`: of what tensors begin at multiples.
    `said`: where the header ends; `long`: where in it the values are that were passed over, from and to.
    """

    metadata: Mapping[str, Value]
    entries: Mapping[str, Entry]
    data: int
    places: Mapping[str, int]
    alignment: int
    said: int
    long: tuple[tuple[int, int], ...] = ()

    @property
    def end(self) -> int:
        """Where the last tensor ends."""
        return self.data + max((entry.stop for entry in self.entries.values()), default=0)

    def length(self, name: str) -> int:
        """How many values the array under a name has, 0 for none."""
        found = self.metadata.get(name, ())
        return len(found) if isinstance(found, tuple) else int(str(found).removesuffix(PASSED))

    def text(self, name: str) -> str:
        """The text under a name, "" for none. Raises `MetadataInvalid` for anything else."""
        found = self.metadata.get(name, "")
        if not isinstance(found, str):
            raise e.MetadataInvalid(f"`{name}`", got=shown(repr(found)), want="a text", hint=phrases.AGAIN)
        return found

    def count(self, name: str) -> int:
        """The number from 1 to 65,535 under a name, 0 for none. Raises `MetadataInvalid` for anything else."""
        found = self.metadata.get(name, 0)
        if isinstance(found, bool) or not isinstance(found, int) or (name in self.metadata and not 0 < found < 1 << 16):
            raise e.MetadataInvalid(f"`{name}`", got=shown(repr(found)), want="a count", hint=phrases.AGAIN)
        return found


def is_gguf(path: Path) -> bool:
    """Whether a file begins as GGUF's do."""
    if not path.is_file():
        return False
    with opened(path) as file:
        return file.read(4) == MAGIC


def open_header(path: Path) -> GgufHeader:
    """The header of a file. Raises a `HeaderError`, or `Unsupported` for another version."""
    with opened(path) as file:
        try:
            return read(file, os.fstat(file.fileno()).st_size)
        except e.HeaderError as error:
            raise error.at(path, hint=phrases.FETCH) from error


def read(file: BinaryIO, size: int) -> GgufHeader:
    """Read and check the header at the start of `file`, which has `size` bytes in all."""
    cursor = _Cursor(file, size)
    if cursor.take(4) != MAGIC:
        raise e.HeaderError("the file does not begin as GGUF does", hint=phrases.FETCH)
    _require_version(cursor.number("I"))
    tensors, values = cursor.number("Q"), cursor.number("Q")
    metadata: dict[str, Value] = {}
    long = []
    for _ in range(values):
        start = cursor.at
        if _put(metadata, cursor.name(), cursor):
            long.append((start, cursor.at))
    found, places = _entries(cursor, tensors)
    alignment = metadata.get(ALIGNMENT, ALIGNED)
    if type(alignment) is not int or not 0 < alignment <= 1 << 20 or alignment & (alignment - 1):
        raise e.MetadataInvalid(f"`{ALIGNMENT}`", got=shown(repr(alignment)), want="a power of 2")
    said = cursor.at
    data = said + -said % alignment
    _require_inside(found, alignment, max(size - data, 0))
    return GgufHeader(metadata, found, data, places, alignment, said, tuple(long))


def shortened(header: GgufHeader, raw: bytes) -> bytes:
    """The bytes of a header, which are `raw`, without the values that are passed over."""
    starts, stops = [0, *(stop for _, stop in header.long)], [*(start for start, _ in header.long), header.said]
    made = bytearray().join(raw[start:stop] for start, stop in zip(starts, stops, strict=True))
    (values,) = struct.unpack_from("<Q", made, VALUES)
    struct.pack_into("<Q", made, VALUES, values - len(header.long))
    return bytes(made) + bytes(-len(made) % header.alignment)


def retyped(header: GgufHeader, raw: bytes, types: Mapping[str, str]) -> tuple[bytes, Mapping[str, Entry]]:
    """(the bytes of a header, what they say of tensors) where some tensors are of other `types` than in `header`, whose
    bytes are `raw`. Tensors keep their order and have no more between them than they must.
    """
    made, entries, at = bytearray(raw), dict[str, Entry](), 0
    for name, old in sorted(header.entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        code = CODES[types.get(name, old.dtype)]
        entries[name] = _entry(name, old.shape, code, at)
        struct.pack_into("<IQ", made, header.places[name], code, at)
        at = entries[name].stop + -entries[name].stop % header.alignment
    return bytes(made), entries


def _require_version(version: int) -> None:
    if version not in VERSIONS:
        swapped = struct.unpack(">I", struct.pack("<I", version))[0] in VERSIONS
        what = "big-endian" if swapped else f"of version {version}"
        raise e.Unsupported(
            f"a GGUF file {what}, where adaptr reads little-endian ones of versions 2 and 3",
            hint="convert it again with a newer llama.cpp, for this machine",
        )


class _Cursor:
    """What is read of a file of `size` bytes, one thing after the other."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.at = file, size, 0

    def take(self, count: int) -> bytes:
        if self.at + count > self.size:
            raise e.HeaderTruncated(f"the header wants {count} bytes at {self.at}, the file ends at {self.size}")
        if self.at + count > MAX_HEADER:
            raise e.HeaderTooLarge("the header", verb="has", got=f"{self.at + count} bytes", want=f"<= {MAX_HEADER}")
        raw = self.file.read(count)
        if len(raw) < count:
            raise e.HeaderTruncated(f"the file ended {count - len(raw)} bytes early")
        self.at += count
        return raw

    def number(self, form: str) -> int:
        found: int = struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))[0]
        return found

    def text(self) -> str:
        try:
            return self.take(self.number("Q")).decode("utf-8")
        except UnicodeDecodeError:
            raise e.HeaderNotUtf8("a text of the header is not UTF-8") from None

    def name(self) -> str:
        found = self.text()
        if len(found) > MAX_KEY:
            raise e.KeyTooLong("a name", verb="has", got=f"{len(found)} characters", want=f"at most {MAX_KEY}")
        return found

    def value(self, kind: int, name: str) -> bool | int | float | str:
        if kind == STRING:
            return self.text()
        if kind not in NUMBERS:
            raise e.MetadataInvalid(f"`{shown(name)}`", verb="has", got=f"type {kind}", want="a type of GGUF")
        raw = self.take(struct.calcsize(f"<{NUMBERS[kind]}"))
        found: bool | int | float = struct.unpack(f"<{NUMBERS[kind]}", raw)[0]
        if isinstance(found, float) and not math.isfinite(found):
            raise e.MetadataInvalid(f"`{shown(name)}`", got=found, want="a finite number")
        return found

    def array(self, name: str) -> Value:
        kind, count = self.number("I"), self.number("Q")
        if count <= KEPT:
            return tuple(self.value(kind, name) for _ in range(count))
        if kind in NUMBERS:
            self.take(count * struct.calcsize(f"<{NUMBERS[kind]}"))
        else:
            for _ in range(count):
                self.value(kind, name)
        return f"{count}{PASSED}"


def _put(metadata: dict[str, Value], name: str, cursor: _Cursor) -> bool:
    """Read the value under a name; whether it is one that is passed over."""
    if name in metadata:
        raise e.KeyDuplicate(f"`{shown(name)}` is there twice")
    kind = cursor.number("I")
    metadata[name] = cursor.array(name) if kind == ARRAY else cursor.value(kind, name)
    return kind == ARRAY and not isinstance(metadata[name], tuple)


def _entries(cursor: _Cursor, count: int) -> tuple[dict[str, Entry], dict[str, int]]:
    found, places = dict[str, Entry](), dict[str, int]()
    for _ in range(count):
        name, axes = cursor.name(), cursor.number("I")
        if axes > MAX_DIMS:
            raise e.ShapeInvalid(f"`{shown(name)}`", verb="has", got=f"{axes} axes", want=f"at most {MAX_DIMS}")
        shape = tuple(reversed([cursor.number("Q") for _ in range(axes)]))
        places[name] = cursor.at
        kind, start = cursor.number("I"), cursor.number("Q")
        if name in found:
            raise e.KeyDuplicate(f"`{shown(name)}` is there twice")
        found[name] = _entry(name, shape, kind, start)
    return found, places


def _entry(name: str, shape: tuple[int, ...], kind: int, start: int) -> Entry:
    if kind not in TYPES:
        raise e.DtypeUnknown(f"`{shown(name)}` has the type {kind}", hint=f"known: {', '.join(CODES)}")
    called, block, nbytes = TYPES[kind]
    if math.prod(shape) > MAX_INT or start > MAX_INT or (shape and shape[-1] % block):
        raise e.ShapeInvalid(f"`{shown(name)}`", verb="has", got=f"shape {shape}", want=f"rows of blocks of {block}")
    return Entry(called, shape, start, start + math.prod(shape) // block * nbytes)


def _require_inside(entries: Mapping[str, Entry], alignment: int, size: int) -> None:
    end, last = 0, ""
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start % alignment:
            raise e.OffsetsInvalid(f"`{shown(name)}` begins at {entry.start}", want=f"a multiple of {alignment}")
        if entry.start < end:
            raise e.OffsetsOverlap(f"`{shown(last)}` and `{shown(name)}` share bytes")
        if entry.stop > size:
            raise e.DataTruncated(f"`{shown(name)}` ends at byte {entry.stop} of {size} of data")
        end, last = entry.stop, name
