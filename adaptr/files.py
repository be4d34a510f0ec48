"""Outputs appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from adaptr.errors import DiskFull, MachineError, OutputExists

MARK = ".adaptr-partial-"
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


@contextmanager
def replacing(path: Path, force: bool = False) -> Iterator[BinaryIO]:
    """A file to write that becomes `path` at the end of the block, and vanishes if the block fails."""
    if path.is_dir():
        raise OutputExists(f"`{path}` is a folder; give the name of a file")
    refuse_existing(path, force)
    with _explained(path):
        partial = _beside(path)
        try:
            with open(partial, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())  # a rename may reach the disk before the bytes do
            os.replace(partial, path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


@contextmanager
def replacing_folder(path: Path, force: bool = False) -> Iterator[Path]:
    """A folder to fill that becomes `path` at the end of the block, and vanishes if the block fails."""
    refuse_existing(path, force)
    with _explained(path):
        partial = _beside(path)
        partial.mkdir()
        try:
            yield partial
            _put(partial, path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def refuse_existing(path: Path, force: bool) -> None:
    """Raises `OutputExists` if there is something at `path` that would be lost."""
    if force or not os.path.lexists(path):
        return
    if not (path.is_dir() and not any(path.iterdir())):
        raise OutputExists(f"`{path}` exists; give `--force` to replace it, or another output")


def _beside(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.parent / f"{MARK}{os.urandom(8).hex()}"


def _put(partial: Path, path: Path) -> None:
    """Put the folder `partial` where `path` is; what was there goes only once the new one is there."""
    if not os.path.lexists(path):
        os.rename(partial, path)
    elif _exchanged(partial, path):
        _remove(partial)
    else:
        old = _beside(path)
        os.rename(path, old)
        try:
            os.rename(partial, path)
        except BaseException:
            os.rename(old, path)
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
        shutil.rmtree(path)
    else:
        path.unlink()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull(f"no space left for `{path}`; nothing was left behind") from error
        if not _about(error, path):
            raise
        raise MachineError(f"`{path}` can't be written: {error.strerror}") from error


def _about(error: OSError, path: Path) -> bool:
    """Whether an error concerns the output, not some input that was read meanwhile."""
    if error.filename is None:
        return True
    named = Path(os.fsdecode(error.filename))
    return MARK in str(named) or named == path or named in path.parents
