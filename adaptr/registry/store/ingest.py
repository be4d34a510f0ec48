"""Blobs enter the store here: hashed while they are written, visible only when they are whole and right.

Every process writes to a file of its own and never removes another's, so that locks are only there to save work. What a
dead process left of a blob is copied, and hashed again, before the rest is asked for.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.errors import DigestMismatch, DiskFull, TransferError
from adaptr.files import FULL
from adaptr.registry.digest import Digest
from adaptr.registry.manifest import Descriptor

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: source(start) opens a blob from a byte on, and says from which byte it really starts.
Opener = Callable[[int], AbstractContextManager[tuple[int, Iterator[bytes]]]]
Count = Callable[[int], None]

CHUNK = 1 << 20
#: Tries in a row without a single new byte.
TRIES = 5
#: Seconds after which what was left here is not gone on with.
OLD = 7 * 24 * 3600.0
#: What must stay free on the disk, in bytes.
SPARE = 64 << 20


class Part:
    """A blob on its way in: a private file, how far it is, and the hash so far."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.{os.getpid()}.{secrets.token_hex(8)}.part"
        self.file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self.hash, self.size = hashlib.sha256(), 0

    def write(self, data: Buffer) -> None:
        view = memoryview(data)
        self.hash.update(view)
        while view:
            done = os.write(self.file, view)
            self.size, view = self.size + done, view[done:]

    def restart(self) -> None:
        os.ftruncate(self.file, 0)
        os.lseek(self.file, 0, os.SEEK_SET)
        self.hash, self.size = hashlib.sha256(), 0

    @property
    def digest(self) -> Digest:
        return Digest("sha256:" + self.hash.hexdigest())

    def close(self) -> None:
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def drop(self) -> None:
        self.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def become(self, final: Path) -> None:
        """The last step: on the disk, read-only, then under its name."""
        os.fsync(self.file)
        os.fchmod(self.file, 0o444)
        self.close()
        try:
            os.replace(self.path, final)
        except FileNotFoundError:
            if not final.exists():  # else another process has finished it and swept up
                raise
        sync(final.parent)


def sync(folder: Path) -> None:
    """Make a rename in a folder last through a power cut."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def fetch(folder: Path, final: Path, what: Descriptor, source: Opener, count: Count) -> None:
    """Bring a blob from `source` to `final`. `folder`: where parts are kept. `count` hears of bytes done.

    Raises `DigestMismatch` after a clean second try, `TransferError` when nothing more arrives, `DiskFull`.
    """
    sweep_old(folder)
    _require_room(folder, what)
    adopted = True
    while True:
        part = Part(folder, what.digest.hex)
        with _full_disk(part, folder, what):
            try:
                done = _adopt(part, folder, what) if adopted else 0
                count(done)
                _receive(part, what, source, count)
            except BaseException:
                part.close()  # kept for the next try
                raise
            if part.size == what.size and part.digest == what.digest:
                part.become(final)
                sweep(folder, what.digest.hex)
                return
        found, size = part.digest, part.size
        part.drop()
        count(-min(size, what.size))
        if not done:
            raise DigestMismatch(
                f"the source sent {size} bytes or more with digest {found}",
                want=f"{what.digest} of {what.size} bytes",
                hint="it is damaged, or changed there: pull it again (nothing was kept)",
            )
        sweep(folder, what.digest.hex)
        adopted = False


def _receive(part: Part, what: Descriptor, source: Opener, count: Count) -> None:
    """Read until all is there or one byte too much came; a try counts unless it came further than any before it."""
    idle, furthest = 0, part.size
    while part.size < what.size:
        try:
            with source(part.size) as (start, chunks):
                if start != part.size:
                    count(-part.size)
                    part.restart()
                for chunk in chunks:
                    part.write(chunk[: what.size - part.size + 1])
                    count(len(chunk))
                    if part.size > what.size:
                        return
            if part.size < what.size:
                raise TransferError(
                    f"the source ended after {part.size} of {what.size} bytes of {what.digest}",
                    hint="try again: what arrived is kept",
                )
        except TransferError:
            idle, furthest = (0, part.size) if part.size > furthest else (idle + 1, furthest)
            if idle >= TRIES:
                raise
            time.sleep(min(0.05 * 2**idle, 2.0))


def _adopt(part: Part, folder: Path, what: Descriptor) -> int:
    """Copy the longest part that somebody left of this blob; returns its size."""
    left = [(found.st_size, path) for path in _parts(folder, what.digest.hex) if (found := seen(path))]
    fitting = sorted(one for one in left if 0 < one[0] <= what.size and one[1] != str(part.path))
    if not fitting:
        return 0
    with contextlib.suppress(FileNotFoundError), open(fitting[-1][1], "rb", opener=_no_link) as file:
        while part.size < what.size and (data := file.read(min(CHUNK, what.size - part.size))):
            part.write(data)
    return part.size


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def _parts(folder: Path, name: str) -> list[str]:
    with os.scandir(folder) as entries:
        return [e.path for e in entries if e.name.startswith(f"{name}.") and e.is_file(follow_symlinks=False)]


def sweep(folder: Path, name: str) -> None:
    """Remove what is left of a blob that is there now."""
    for path in _parts(folder, name):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def sweep_old(folder: Path) -> None:
    """Remove what nobody has gone on with for `OLD` seconds: parts, and folders of links."""
    with os.scandir(folder) as entries:
        left = [e for e in entries if older(e, time.time() - OLD)]
    for entry in left:
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)


def seen(path: str | os.PathLike[str]) -> os.stat_result | None:
    """What is in a folder that processes share; None where another has removed it since it was listed."""
    with contextlib.suppress(FileNotFoundError):
        return os.lstat(path)
    return None


def older(path: str | os.PathLike[str], than: float) -> bool:
    """Whether nobody has written it since `than`; what is gone isn't old."""
    found = seen(path)
    return found is not None and found.st_mtime < than


def _require_room(folder: Path, what: Descriptor) -> None:
    free = shutil.disk_usage(folder).free
    if free < what.size + min(SPARE, what.size):
        raise DiskFull(
            f"`{folder}` has {free} bytes free, {what.digest} needs {what.size}",
            hint="free some (`adaptr gc`), or set `ADAPTR_HOME` to another disk",
        )


@contextlib.contextmanager
def _full_disk(part: Part, folder: Path, what: Descriptor) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in FULL and error.errno != errno.EFBIG:
            raise
        raise DiskFull(
            f"no space left in `{folder}` after {part.size} of {what.size} bytes of {what.digest}",
            hint="what arrived is kept: make room (`adaptr gc`), and go on by the same command",
        ) from error
