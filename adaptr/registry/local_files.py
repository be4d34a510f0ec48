"""A file here, read like one on a server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adaptr.errors import InputError, NotFound

CHUNK = 1 << 20


@dataclass(frozen=True)
class LocalFile:
    """A file of this machine. Raises `NotFound` when it is read and is not there."""

    path: Path

    @contextmanager
    def read(self, start: int = 0) -> Iterator[tuple[int, Iterator[bytes]]]:
        """The bytes from `start` on, and `start`."""
        if not self.path.is_file():
            raise NotFound(f"there is no file `{self.path}`", hint="look at the path")
        with open(self.path, "rb") as file:
            file.seek(start)
            yield start, iter(lambda: file.read(CHUNK), b"")

    def whole(self, limit: int) -> bytes:
        """All of it. Raises `InputError` when it is longer than `limit` bytes."""
        data, size = self.start(limit)
        if size > limit:
            raise InputError(f"`{self.path}`", verb="has", got=f"{size} bytes", want=f"at most {limit}")
        return data

    def start(self, count: int) -> tuple[bytes, int]:
        """The first `count` bytes and the size of all."""
        found = bytearray()
        with self.read() as (_, chunks):
            for chunk in chunks:
                found += chunk
                if len(found) >= count:
                    break
        return bytes(found[:count]), self.path.stat().st_size
