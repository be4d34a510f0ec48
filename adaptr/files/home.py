"""Where adaptr keeps what is this user's: the store, the policy, what was learnt of servers."""

from __future__ import annotations

import functools
import os
import stat
from pathlib import Path

from adaptr.errors import StoreUnsafe

#: Of folders and files that others may read and only their owner may write, whatever the umask is.
FOLDER, READABLE = 0o755, 0o644


def home() -> Path:
    """`$ADAPTR_HOME`, or the platform's folder for data."""
    return Path(os.environ.get("ADAPTR_HOME") or _data_folder()).expanduser()


@functools.cache
def _data_folder() -> str:
    import platformdirs

    return platformdirs.user_data_dir("adaptr", appauthor=False)


def made(folder: Path) -> Path:
    """The folder, made with those above it where they are missing, each for its owner alone to write."""
    if not folder.is_dir():
        if folder.parent != folder:
            made(folder.parent)
        try:
            folder.mkdir(FOLDER)
        except FileExistsError:  # by another process, at the same time
            return folder
        folder.chmod(FOLDER)  # the umask may have taken something away
    return folder


def require_own(path: Path) -> None:
    """Raises `StoreUnsafe` for what another user, other than root, has or may write to."""
    seen = path.stat()
    mine = seen.st_uid in {os.geteuid(), 0}
    if not mine or seen.st_mode & 0o022:
        raise StoreUnsafe(
            f"`{path}` {'may be written by others' if mine else 'belongs to another user'}: what it says could be "
            "changed by them",
            hint="set `ADAPTR_HOME` to a folder of your own, or `chmod go-w` it",
        )


def require_kept(folder: Path) -> None:
    """Raises `StoreUnsafe` where anybody may put another folder in the place of this one, or take it away.

    That is so below a folder that everybody may write to, unless it leaves to each what is theirs (`/tmp`).
    """
    for above in folder.absolute().parents:
        mode = above.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise StoreUnsafe(
                f"`{above}` may be written by everybody, so that `{folder}` could be moved away, and a policy with it",
                hint="set `ADAPTR_HOME` to a folder elsewhere, or `chmod o-w` that one",
            )
