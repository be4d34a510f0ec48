"""Files on plain servers: whole, from a byte on, or only their start."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from adaptr.errors import AdaptrError, AuthError, NotFound, RegistryError, TransferError, shown
from adaptr.registry.client.http import Answer, exchange
from adaptr.registry.client.retry import retried

_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)\Z")


def refused(answer: Answer, where: str) -> AdaptrError:
    """What an answer means that is not the file."""
    said = f"`{shown(where, 200)}` answers {answer.status} {shown(answer.reason)}"
    if answer.status in {404, 410}:
        return NotFound(
            f"there is nothing at `{shown(where, 200)}` ({answer.status})", hint="look at its name and version"
        )
    return (AuthError if answer.status in {401, 403} else RegistryError)(said)


@dataclass(frozen=True)
class File:
    """A file on a server. `headers`: who asks, told to this origin only; `refused`: what another answer means."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    refused: Callable[[Answer, str], AdaptrError] = refused

    @contextmanager
    def read(self, start: int = 0) -> Iterator[tuple[int, Iterator[bytes]]]:
        """The bytes from `start` on, and where they really begin. Tried once: who reads knows how far it came."""
        for at in (start, 0):
            try:
                with self._asked(f"bytes={at}-" if at else "") as answer:
                    if at and (answer.status == 416 or (answer.status == 206 and _span(answer)[0] != at)):
                        continue
                    self._require_bytes(answer)
                    yield at if answer.status == 206 else 0, answer.chunks()
                    return
            except TransferError as error:
                time.sleep(error.after)
                raise

    def whole(self, limit: int) -> bytes:
        """All of it. Raises `RegistryError` when it is longer than `limit` bytes."""

        def once() -> bytes:
            with self._asked("") as answer:
                self._require_bytes(answer)
                return answer.read(limit)

        return retried(once)

    def start(self, count: int) -> tuple[bytes, int]:
        """The first `count` bytes, in one request, and the size of all. Raises `RegistryError` without a size."""

        def once() -> tuple[bytes, int]:
            found = bytearray()
            with self._asked(f"bytes=0-{count - 1}") as answer:
                if answer.status == 416:
                    return b"", 0
                self._require_bytes(answer)
                size = _span(answer)[1] if answer.status == 206 else answer.length
                for chunk in answer.chunks():
                    found += chunk
                    if len(found) >= count:
                        break
            if size < 0:
                raise RegistryError(
                    f"`{shown(self.url, 200)}` does not say how long it is",
                    hint="download it by other means, and give the file",
                )
            return bytes(found[:count]), size

        return retried(once)

    @contextmanager
    def _asked(self, span: str) -> Iterator[Answer]:
        with exchange("GET", self.url, {**self.headers, **({"Range": span} if span else {})}) as answer:
            answer.require_lasting()
            yield answer

    def _require_bytes(self, answer: Answer) -> None:
        if answer.status not in {200, 206}:
            raise self.refused(answer, self.url)


def _span(answer: Answer) -> tuple[int, int]:
    """The first byte of a partial answer and the size of all; -1 for what it does not say."""
    found = _RANGE.match(answer.header("content-range"))
    if found is None:
        return -1, -1
    return int(found[1]), -1 if found[3] == "*" else int(found[3])
