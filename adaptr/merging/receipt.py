"""The receipt of a merge: what makes it traceable, and what makes `unmerge` bit-exact without the base.

`OUT/adaptr/receipt.safetensors`, or of one file `OUT.safetensors.adaptr/receipt.safetensors`, holds a canonical JSON
document (who was merged, by digest; the sha256 of every base tensor that changed) and, unless the merge was asked to
leave them out, the patches; the adapters lie beside it, named by digest.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from adaptr.checkpoint.stream import CHUNK, copy_range
from adaptr.errors import (
    FieldInvalid,
    FieldMissing,
    FormatError,
    FormatTooNew,
    InputError,
    NotMerged,
    shown,
)
from adaptr.format import canonical
from adaptr.format import header as headers
from adaptr.merging.damage import WAY, damaged
from adaptr.merging.receipt_check import FILE_BLOB, wrong
from adaptr.untrusted import opened

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.bulk.blocks import Kept

FOLDER = "adaptr"
FILE = "receipt.safetensors"
#: Where the receipt folder of a base lies that was merged itself.
PARENT = "parent"
KEY = "adaptr-receipt"
FORMAT = 3
#: Where the result is written in another dtype than the base's, which the document says under `DTYPE`.
RECAST = 4
DTYPE = "dtype"
#: Formats that are read. In 2 the inverse is in plain fp32, whose bits only the machine that merged has for sure.
KNOWN = (2, FORMAT, RECAST)
FIELDS = ("format", "adapters", "base", "tensors", "exact")


class Spool:
    """Blobs written as they come, in any order, and read back in the order of their keys."""

    def __init__(self, folder: Path) -> None:
        self.file: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed with the spool
        self.ranges: dict[str, list[tuple[int, int]]] = {}

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def put(self, key: str, blob: bytes | memoryview) -> None:
        """A blob, or what comes next of it."""
        self.ranges.setdefault(key, []).append((self.file.tell(), len(blob)))
        self.file.write(blob)

    def write_to(self, file: BinaryIO, keys: Iterable[str]) -> None:
        """Append the blobs in the order of `keys`."""
        self.file.flush()
        file.flush()
        at = os.fstat(file.fileno()).st_size
        for start, count in (piece for key in keys for piece in self.ranges[key]):
            copy_range(self.file.fileno(), start, file.fileno(), at, count)
            at += count


def write(folder: Path, document: Mapping[str, Any], blobs: Spool) -> int:
    """Write the receipt into a merged checkpoint's folder; returns its size in bytes."""
    path = folder / FOLDER / FILE
    path.parent.mkdir(exist_ok=True)
    shapes = {key: ("U8", (sum(count for _, count in pieces),)) for key, pieces in blobs.ranges.items()}
    version = RECAST if DTYPE in document else FORMAT
    raw, header = headers.build(shapes, {KEY: canonical.dumps({"format": version, **document})})
    with open(path, "wb") as file:
        file.write(raw)
        blobs.write_to(file, header.entries)
    return path.stat().st_size


@dataclass(frozen=True)
class Receipt:
    """A receipt as read. `exact`: it holds what unmerging needs."""

    path: Path
    document: Mapping[str, Any]
    header: headers.Header

    @property
    def exact(self) -> bool:
        return bool(self.document["exact"])

    @property
    def portable(self) -> bool:
        """Whether it was made for any machine, not for the one that merged."""
        return bool(self.document["format"] != KNOWN[0])

    @property
    def adapters(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.document["adapters"]
        return found

    def adapter_file(self, number: int) -> Path:
        return self.path.parent / adapter_name(self.adapters[number]["digest"])

    def has_adapter(self, number: int) -> bool:
        return self.adapter_file(number).is_file()

    @property
    def files(self) -> list[str]:
        """The base's files, other than weights, that the merge changed."""
        return [key.removeprefix(FILE_BLOB) for key in self.header.entries if key.startswith(FILE_BLOB)]

    @property
    def packed(self) -> Mapping[str, str]:
        """The weights that lay packed and changed, and their schemes."""
        found: Mapping[str, str] = self.document.get("packed", {})
        return found

    @property
    def dtype(self) -> str:
        """In which all floats were written, "" for the base's own."""
        return str(self.document.get(DTYPE, ""))

    def recast(self, note: Mapping[str, Any]) -> bool:
        """Whether a tensor of the base, of which the receipt says `note`, was written in another dtype."""
        return bool(self.dtype and note) and not note.get("added") and note.get("dtype") != self.dtype

    @property
    def added(self) -> set[str]:
        """Tensors that the base does not have."""
        return {name for name, note in self.document["tensors"].items() if note.get("added")}

    @property
    def digests(self) -> dict[str, str]:
        """The digest of each tensor of the base that the receipt knows: all, or in older ones those that changed."""
        changed = {name: note["digest"] for name, note in self.document["tensors"].items() if not note.get("added")}
        return {**self.document.get("untouched", {}), **changed}

    def blob(self, key: str, most: int) -> bytes:
        """One blob; empty if there is none of that key.

        `most`: how many bytes what it is of can need. Raises `DigestMismatch` for more, before they are read.
        """
        entry = self.header.entries.get(key)
        if entry is not None and entry.nbytes > most:
            raise damaged(
                f"the receipt says it has {entry.nbytes} bytes under `{shown(key)}`, which can be {most} at most"
            )
        return b"".join(self.pieces(key))

    def pieces(self, key: str) -> Iterator[bytes]:
        """One blob, a piece at a time: none if there is none of that key."""
        entry = self.header.entries.get(key)
        if entry is None:
            return
        with opened(self.path) as file:
            file.seek(self.header.data + entry.start)
            for at in range(0, entry.nbytes, CHUNK):
                yield file.read(min(CHUNK, entry.nbytes - at))


def place(root: Path) -> Path:
    """The folder of a checkpoint's receipt: in the checkpoint's own, or beside its one file."""
    return beside(root) if root.is_file() else root / FOLDER


def beside(file: Path) -> Path:
    """The folder of the receipt of a checkpoint that is, or will be, one file."""
    return file.with_name(f"{file.name}.{FOLDER}")


def kept_blobs(name: str, row: int, kept: Kept) -> Iterator[tuple[str, Tensor]]:
    """What the inverse of rows from `row` on needs, in fp32, by the keys of its blobs."""
    for number, tensors in kept.items():
        for key, tensor in tensors.items():
            yield f"{name}:{row}.{number}.{key}", tensor.float()


def most_kept(shape: tuple[int, ...]) -> int:
    """Bytes of fp32 kept of a weight at most: gains and rotations have no more than the longer side squared."""
    count, short = math.prod(shape), max(min(shape, default=1), 1)
    return 4 * count * max(*shape, count // max(shape[0], 1)) // short


def adapter_name(digest: str) -> str:
    return digest.removeprefix("sha256:")[:16] + ".adaptr.safetensors"


def read(root: Path) -> Receipt:
    """The receipt of a merged checkpoint. Raises `NotMerged` if there is none."""
    path = place(root) / FILE
    if not path.is_file():
        raise NotMerged(
            f"`{root}` has no receipt (`{path.parent.name}/{FILE}`): it was not merged by adaptr, or moved without it",
            hint="put the receipt back, or use the base itself",
        )
    return read_from(path)


def read_from(path: Path) -> Receipt:
    """The receipt in a file. Raises `InputError` and its kin if it is not one."""
    with opened(path) as file:
        header = headers.read(file, path.stat().st_size)
    try:
        document = headers.load_json(header.metadata.get(KEY, "").encode())
    except FormatError:
        raise InputError(f"`{path}` has no readable receipt under `{KEY}`", hint=WAY) from None
    if any(field not in document for field in FIELDS):
        raise FieldMissing(f"`{path}` lacks one of {', '.join(FIELDS)}", hint=WAY)
    if document["format"] == 1:
        raise NotMerged(f"`{path}` has receipt format 1, whose inverse rounds otherwise", hint="use the base itself")
    if document["format"] not in KNOWN:
        raise FormatTooNew(
            f"`{path}`",
            verb="has",
            got=f"receipt format {document['format']!r}",
            want=f"{KNOWN}, which this adaptr reads",
            hint="install a newer adaptr",
        )
    bad = wrong(document, header)
    if bad:
        raise FieldInvalid(f"`{path}`: `{shown(bad)}` is not what a receipt holds there", hint=WAY)
    return Receipt(path, document, header)
