"""Outputs appear whole or not at all: written beside their place, then renamed, where `adaptr.files.place` lets them.

What is being written is locked; what lies there unlocked was left by a process that died, and goes with the next write
to the same folder.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from adaptr.errors import DiskFull, MachineError
from adaptr.files import record
from adaptr.files.place import (
    file_named,
    require_apart,
    require_file,
    require_folder,
    require_ours,
    settled,
    weights_named,
)

__all__ = [
    "file_named",
    "replacing",
    "replacing_folder",
    "require_apart",
    "require_file",
    "require_folder",
    "weights_named",
]

MARK = ".adaptr-partial-"
#: What is being replaced, for a moment, where names can't be swapped in one step: never swept up.
OLD = ".adaptr-old-"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def replacing(path: Path, force: bool = False) -> Iterator[BinaryIO]:
    """A file to write that becomes `path` at the end of the block, and vanishes if the block fails."""
    path = settled(path)
    require_file(path, force)
    with _explained(path):
        partial, lock = _begun(path, lambda partial: open(partial, "xb").close())
        try:
            with lock, open(partial, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())  # a rename may reach the disk before the bytes do
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def replacing_folder(path: Path, force: bool = False) -> Iterator[Path]:
    """A folder to fill that becomes `path` at the end of the block, and vanishes if the block fails.

    What is in it then is recorded in it, so that another output may replace it.
    """
    path = settled(path)
    require_folder(path, force)
    with _explained(path):
        partial, lock = _begun(path, os.mkdir)
        try:
            with lock:
                yield partial
                record.write(partial)
                _put(partial, path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _beside(path: Path) -> Path:
    return path.parent / f"{MARK}{os.urandom(8).hex()}"


def _begun(path: Path, make: Callable[[Path], None]) -> tuple[Path, ExitStack]:
    """Something new beside `path`, and the lock on it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    while True:
        partial = _beside(path)
        make(partial)
        lock = _locked(partial, wait=True)
        if os.path.lexists(partial):  # else another process swept it up before it was locked
            return partial, lock or ExitStack()


def _sweep(folder: Path) -> None:
    """Remove what dead processes left in a folder."""
    for partial in folder.glob(f"{MARK}*"):
        lock = _locked(partial, wait=False)
        if lock is not None:
            with lock, suppress(OSError):
                _remove(partial)


def _locked(path: Path, wait: bool) -> ExitStack | None:
    """The lock on a file or folder; None if another process has it, or nothing can be locked here."""
    import fcntl

    with ExitStack() as held:
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            held.callback(os.close, file)
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            return None
        return held.pop_all()


def _put(partial: Path, path: Path) -> None:
    """Put the folder `partial` where `path` is; what was there goes only once the new one is there.

    It is looked at once more where nobody finds it by its name: what came in meanwhile is not lost either.
    """
    if not os.path.lexists(path):
        os.rename(partial, path)
        return
    one_step = _exchanged(partial, path)
    old = partial if one_step else path.parent / f"{OLD}{os.urandom(8).hex()}"
    if not one_step:
        os.rename(path, old)
    try:
        require_ours(old, path)
        if not one_step:
            os.rename(partial, path)
    except BaseException:
        _exchanged(partial, path) if one_step else os.rename(old, path)
        raise
    _remove(old)


def _exchanged(a: Path, b: Path) -> bool:
    """Swap two names in one step, so that a kill at any moment leaves either. False where the system can't."""
    import ctypes

    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return bool(rename(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)  # what can't go now is swept up later
    else:
        path.unlink()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull(
                f"no space left for `{path}`; nothing was left behind", hint="make room, or give another output"
            ) from error
        if not _about(error, path):
            raise
        raise MachineError(f"`{path}` can't be written: {error.strerror}", hint="give another output") from error


def _about(error: OSError, path: Path) -> bool:
    """Whether an error concerns the output, not some input that was read meanwhile."""
    if error.filename is None:
        return True
    named = Path(os.fsdecode(error.filename))
    return MARK in str(named) or named == path or named in path.parents
