"""What names an adapter: the weights digest, its identity in every format, and the digest of a file, one copy of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.adapter import Part, part_keys
from adaptr.errors import DigestMismatch, FileChanged
from adaptr.format.header import Header
from adaptr.format.io import stored_of
from adaptr.untrusted import opened

if TYPE_CHECKING:
    from adaptr.adapter import Adapter

CHUNK = 1 << 20


def of_file(path: str | os.PathLike[str]) -> str:
    """`sha256:` of a file's bytes."""
    with opened(Path(path)) as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def of_files(paths: Iterable[Path], folder: Path | None = None) -> str:
    """`sha256:` of the digests of files, a line each in the order of their names, or of their paths in `folder`: what
    `sha256sum` says of them.
    """
    digests = {
        path.relative_to(folder).as_posix() if folder else path.name: of_file(path).removeprefix("sha256:")
        for path in paths
    }
    listed = "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))
    return "sha256:" + hashlib.sha256(listed.encode()).hexdigest()


def require(path: str | os.PathLike[str], want: str) -> None:
    """Raises `DigestMismatch` if a file is not the one that `want` names."""
    found = of_file(path)
    if found != want:
        raise DigestMismatch(
            f"`{path}`",
            verb="has",
            got=f"digest {found}",
            want=f"{want}, as the receipt says",
            hint="put the file there that it had when it was merged",
        )


def of_weights(path: str | os.PathLike[str], header: Header, part: str = "") -> str:
    """`sha256:` over key, dtype, shape and bytes of all tensors in the order of their keys, without torch.

    `part`: only those of one part of a composite, under the keys that they have on their own.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(CHUNK))
    keys = {key: key for key in header.entries} if not part else part_keys(header.entries, part)
    with opened(Path(path)) as file:
        for key in sorted(keys):
            entry = header.entries[keys[key]]
            digest.update(_line(key, entry.dtype, entry.shape))
            file.seek(header.data + entry.start)
            left = entry.nbytes
            while left:
                got = file.readinto(buffer[: min(left, CHUNK)])
                if not got:
                    raise FileChanged(
                        f"`{path}` became shorter after its header was read",
                        hint="wait until it is written, and read it again",
                    )
                digest.update(buffer[:got])
                left -= got
    return "sha256:" + digest.hexdigest()


def of_adapter(adapter: Adapter) -> str:
    """The weights digest of an adapter: over its logical tensors, so that it is the same in memory, in an adaptr file
    and in a file of another tool. Reads one tensor at a time, without torch where it lies in a file as it is.
    """
    digest = hashlib.sha256()
    for key in sorted(adapter.tensors):
        dtype, shape, data = stored_of(adapter.tensors, key)
        digest.update(_line(key, dtype, shape))
        for piece in data:
            digest.update(piece)
    return "sha256:" + digest.hexdigest()


def _line(key: str, dtype: str, shape: tuple[int, ...]) -> bytes:
    return f"{key}\0{dtype}\0{','.join(map(str, shape))}\n".encode()


def require_parts(path: str | os.PathLike[str], header: Header, parts: Mapping[str, Part]) -> None:
    """Raises `DigestMismatch` if a part of the file at `path` is not the adapter that it says it was."""
    for name, part in parts.items():
        found = of_weights(path, header, name) if part.digest else ""
        if found != part.digest:
            raise DigestMismatch(
                f"`{path}`: its part `{name}` has weights of digest {found}, and was made of {part.digest}",
                hint="make the file again from the adapter that is meant",
            )
