"""Bytes of data as they come: from a file, packed or not, or from standard input, once, and digested on the way."""

from __future__ import annotations

import gzip
import hashlib
import io
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from adaptr.errors import DataError, phrases
from adaptr.untrusted import MAX_DOCUMENT, opened

#: Bytes of one line, and of a file that can only be read whole.
MAX_LINE, MAX_WHOLE = MAX_DOCUMENT, 2 << 30
#: Bytes that a file may have in all, unpacked.
MAX_DATA = 64 << 30
STDIN = "-"
MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass
class Source:
    """A stream and what it was called. `digest` is known when all was read."""

    given: str
    stream: BinaryIO
    called: str = ""
    seen: _Digested | None = field(default=None, repr=False)

    def lines(self) -> Iterator[tuple[int, str]]:
        """Number, from 1, and text of each line, its end included. Raises `DataError` for what is no UTF-8."""
        number, total = 0, 0
        while raw := self._line(number + 1):
            number, total = number + 1, total + len(raw)
            if total > MAX_DATA:
                raise DataError(f"{self.called}: it is longer than {MAX_DATA} bytes", hint="split it")
            yield number, self._decoded(raw, number)

    def text(self) -> str:
        """All of it."""
        return self._decoded(self.whole(), 1)

    def whole(self) -> bytes:
        """All bytes. Raises `DataError` for more than `MAX_WHOLE`."""
        raw = self._read(MAX_WHOLE + 1)
        if len(raw) > MAX_WHOLE:
            raise DataError(f"{self.called}: it is longer than {MAX_WHOLE} bytes", hint="make it JSONL")
        return raw

    @property
    def digest(self) -> str:
        """`sha256:...` of the bytes as they lie, packed if they are."""
        assert self.seen is not None
        return self.seen.finished()

    def close(self) -> None:
        self.stream.close()
        if self.seen is not None:
            self.seen.close()

    def _line(self, number: int) -> bytes:
        with self._explained(number):
            raw = self.stream.readline(MAX_LINE + 1)
        if len(raw) > MAX_LINE:
            raise DataError(
                f"{self.called}:{number}: the line is longer than {MAX_LINE} bytes",
                hint="write one record a line, and long ones shorter",
            )
        return raw

    def _read(self, most: int) -> bytes:
        pieces, left = [], most
        with self._explained(1):
            while left and (piece := self.stream.read(min(left, 1 << 20))):
                pieces.append(piece)
                left -= len(piece)
        return b"".join(pieces)

    def _decoded(self, raw: bytes, number: int) -> str:
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
            if (mark := MARKS.get(raw[:2])) is not None:
                raise DataError(f"{self.called}: the text is {mark}", want="UTF-8", hint="save it as UTF-8")
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            line = number + raw[: error.start].count(b"\n")
            raise DataError(
                f"{self.called}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8", hint="save the file as UTF-8"
            ) from None

    def _explained(self, number: int) -> _Unpacking:
        return _Unpacking(f"{self.called}:{number}")


class _Unpacking:
    """What gzip says of a broken file, as our error."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, gzip.BadGzipFile | EOFError | zlib.error):
            raise DataError(
                f"{self.place}: the file is packed with gzip, and broken: {error}", hint=phrases.FETCH
            ) from error


class _Digested(io.RawIOBase):
    """A stream whose bytes are digested as they are read."""

    def __init__(self, inner: BinaryIO) -> None:
        self.inner, self.hash = inner, hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        piece = self.inner.read(len(view))
        view[: len(piece)] = piece
        self.hash.update(piece)
        return len(piece)

    def finished(self) -> str:
        while piece := self.inner.read(1 << 20):
            self.hash.update(piece)
        return f"sha256:{self.hash.hexdigest()}"

    def close(self) -> None:
        if self.inner is not sys.stdin.buffer:
            self.inner.close()
        super().close()


def source(given: str) -> Source:
    """The file called `given`, or standard input for `-`. Raises `DataError`, and as `untrusted.opened`."""
    if given == STDIN:
        return _unpacked(given, "standard input", sys.stdin.buffer)
    return _unpacked(given, given, opened(Path(given)))


def _unpacked(given: str, called: str, raw: BinaryIO) -> Source:
    seen = _Digested(raw)
    stream = io.BufferedReader(seen, 1 << 20)
    packed = stream.peek(2)[:2] == b"\x1f\x8b"
    inner: BinaryIO = gzip.GzipFile(fileobj=stream) if packed else stream  # type: ignore[assignment]
    return Source(given, inner, called, seen)
