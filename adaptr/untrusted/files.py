"""Files that others wrote: regular ones, read whole or refused."""

from __future__ import annotations

import os
import stat
from io import BufferedReader
from pathlib import Path

from adaptr.errors import InputError, MachineError, phrases, shown

#: What a configuration, a lock file, an index of shards may have, in bytes, unless a reader says less.
MAX_DOCUMENT = 64 << 20
PIECE = 1 << 20


def opened(path: Path) -> BufferedReader:
    """Open a regular file for reading. Raises `InputError` that says what is there instead.

    Pipes and devices are refused: one waits for a writer, the other never ends.
    """
    try:
        _require_regular(path, os.stat(path).st_mode)  # before it is opened: opening some devices does something
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _require_regular(path, os.fstat(file).st_mode)
        except BaseException:
            os.close(file)
            raise
        return os.fdopen(file, "rb")
    except FileNotFoundError:
        raise InputError(f"there is no file `{path}`", hint=phrases.near(str(path)) or "look at the path") from None
    except PermissionError:
        raise MachineError(f"`{path}` may not be read", hint="look at its permissions") from None
    except (OSError, ValueError) as error:
        raise InputError(
            f"`{shown(str(path))}` can't be read: {error}", hint="look at the path and its permissions"
        ) from None


def _require_regular(path: Path, mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kinds = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"))
    what = next((name for kind, name in kinds if kind(mode)), "device")
    raise InputError(f"`{path}` is a {what}", want="a file")


def whole(path: Path, limit: int = MAX_DOCUMENT) -> bytes:
    """All bytes of a regular file. Raises `InputError`, also for one of more than `limit` bytes."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        raw = _up_to(file, limit + 1) if size <= limit else b""
    if size > limit or len(raw) > limit:
        what = f"`{path}` is longer than {limit} bytes, which is the most that is read of such a file"
        raise InputError(what, hint="look whether it is the right one")
    return raw


def _up_to(file: BufferedReader, most: int) -> bytes:
    """What there is, in pieces: to read `most` bytes at once is to ask for so much memory first."""
    found, left = [], most
    while piece := file.read(min(left, PIECE)):
        found.append(piece)
        left -= len(piece)
    return b"".join(found)
