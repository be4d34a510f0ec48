"""Folders whose files are links: the Hub's cache and the views of adaptr's own store. Other links lead nowhere else.

A folder that came from somebody may hold a link to anything of this machine, and what is read as a part of it would be
copied into an output, and published with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from adaptr.errors import CheckpointError, InputError, shown
from adaptr.untrusted import whole

#: Folders of folders of links, beside which the bytes lie in `blobs`.
_LAYOUTS = ("snapshots", "views")


def snapshot(path: Path) -> Path:
    """The folder with the files, for a Hub cache folder (`models--org--name`) the snapshot that `main` points at.

    Raises `InputError` where that revision is not there, `CheckpointError` where no revision is meant.
    """
    snapshots = path / "snapshots"
    if not snapshots.is_dir():
        return path
    pointer = path / "refs" / "main"
    if pointer.is_file():
        revision = whole(pointer, 1024).decode("utf-8", "replace").strip()
        if not is_name(revision) or not (snapshots / revision).is_dir():
            raise InputError(
                f"`{path}`: `main` is revision `{shown(revision)}`, which is not there", hint="download it again"
            )
        return snapshots / revision
    revisions = sorted(snapshots.iterdir())
    if len(revisions) != 1:
        raise CheckpointError(
            f"`{path}` holds {len(revisions)} revisions and no `main`", hint=f"name one: `{snapshots}/<revision>`"
        )
    return revisions[0]


def is_name(name: str) -> bool:
    """Whether it is the name of something in a folder, and no way to another."""
    return bool(name) and "\0" not in name and name != ".." and Path(name).name == name


def require_inside(folder: Path, files: Iterable[Path]) -> None:
    """Raises `InputError` for a link among the `files` of `folder` that leads out of it, and not to a cache's blobs."""
    links = [file for file in files if file.is_symlink()]
    if not links:
        return
    own = folder.resolve()
    places = [own, *([own.parent.parent / "blobs"] if own.parent.name in _LAYOUTS else [])]
    for link in links:
        found = link.resolve()
        if found.exists() and not any(found.is_relative_to(place) for place in places):
            raise InputError(
                f"`{link}` is a link that leads out of its folder, and what is there would be taken for a part of it",
                hint="put the file itself in its place",
            )
