"""Outputs appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from adaptr.errors import DiskFull, MachineError, OutputExists

MARK = ".adaptr-partial-"


@contextmanager
def replacing(path: Path, force: bool = False) -> Iterator[BinaryIO]:
    """A file to write that becomes `path` at the end of the block, and vanishes if the block fails."""
    refuse_existing(path, force)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=MARK, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextmanager
def replacing_folder(path: Path, force: bool = False) -> Iterator[Path]:
    """A folder to fill that becomes `path` at the end of the block, and vanishes if the block fails."""
    refuse_existing(path, force)
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=MARK, dir=path.parent))
        try:
            yield partial
            partial.chmod(0o777 & ~_umask())
            if path.is_dir() and not path.is_symlink():
                _exchange(partial, path)
            else:
                os.replace(partial, path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise


def _exchange(partial: Path, path: Path) -> None:
    """Put `partial` where the folder `path` is; the old one goes only once the new one is there."""
    old = Path(tempfile.mkdtemp(prefix=MARK, dir=path.parent))
    os.replace(path, old)
    try:
        os.replace(partial, path)
    except BaseException:
        os.replace(old, path)
        raise
    shutil.rmtree(old)


def refuse_existing(path: Path, force: bool) -> None:
    """Raises `OutputExists` if there is something at `path` that would be lost."""
    empty = path.is_dir() and not any(path.iterdir())
    if not force and not empty and (path.exists() or path.is_symlink()):
        raise OutputExists(f"`{path}` exists; give `--force` to replace it, or another output")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DiskFull(f"no space left for `{path}`; nothing was left behind") from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise MachineError(f"`{path}` may not be written: {error.strerror}") from error
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
