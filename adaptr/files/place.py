"""May an output go there? Never where it would be, hold or lie in an input; and what is replaced must be adaptr's.

Files and folders are told apart by device and number, not by name: links, `..`, other mounts of a disk and systems that
take `A` for `a` lead to the same ones.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from adaptr.errors import OutputExists, UsageError
from adaptr.files import record
from adaptr.files.home import home

#: Strangers that a refusal names, and entries of an input or output that are looked at.
SHOWN, MOST = 8, 10_000
#: What is this user's in adaptr's own folder, and no output's place.
KEPT = ("store", "policy.yaml", "realms.json")
#: First bytes of files that nobody can make again, whatever name they were given as an output.
PRECIOUS = (
    (b"GGUF", "a model's weights"),
    (b"PK\x03\x04", "an archive, as torch's weights are"),
    (b"\x80", "a pickle, as torch's weights are"),
    (b"-----BEGIN", "a key or certificate"),
)
#: How files are called that run code when they are opened: no name for what does not.
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"})
Identity = tuple[int, int]


def file_named(out: str | os.PathLike[str], what: str = "what is written") -> Path:
    """The place of an output that is one file, as people gave it. Raises `UsageError` for `name/`, the name of a
    folder, where none is: a path would drop that end.
    """
    text = os.fspath(out)
    if text.endswith(("/", os.sep)) and not Path(text).is_dir():
        raise UsageError(f"`{text}` is the name of a folder, and {what} is one file", hint="name the file")
    return Path(text)


def weights_named(out: str | os.PathLike[str]) -> Path:
    """The same of an adapter. Raises `UsageError` also for the name of a pickle, which others would open as one."""
    path = file_named(out, "an adapter")
    if path.suffix.lower() in PICKLES:
        hint = f"call it `{path.with_suffix('.safetensors')}`"
        raise UsageError(f"`{path}` is the name of a pickle, and this is a safetensors file", hint=hint)
    return path


def require_file(path: Path, force: bool, inputs: Iterable[Path] | None = None) -> None:
    """Raises `OutputExists` where the file `path` would be, or lie in, an input, or something would be lost there.

    `inputs`: all that is read to make it; None for adaptr's own files. With `force`, a plain file is replaced that
    holds no weights of other tools and no key.
    """
    path = settled(path)
    if inputs is not None:
        require_apart(path, inputs)
    if path.is_dir():
        raise OutputExists(f"`{path}` is a folder", hint="give the name of a file")
    if not os.path.lexists(path):
        return
    if not force:
        raise _exists(path)
    what = _precious(path)
    if what:
        raise OutputExists(f"`{path}` is {what}, which even `--force` does not replace", hint="give another output")


def require_folder(path: Path, force: bool, inputs: Iterable[Path] | None = None) -> None:
    """Raises `OutputExists` where the folder `path` would be, hold or lie in an input, or something would be lost.

    `inputs`: all that is read to make it. With `force`, a folder is replaced in which all is as adaptr wrote it.
    """
    path = settled(path)
    if inputs is not None:
        require_apart(path, inputs)
    if not os.path.lexists(path) or (path.is_dir() and not any(path.iterdir())):
        return
    if not force:
        raise _exists(path)
    require_ours(path)


def require_ours(path: Path, called: Path | None = None) -> None:
    """Raises `OutputExists` for a folder in which something is not as adaptr wrote it. `called`: its name to people."""
    if path.is_symlink():
        return  # it alone is replaced, and what it leads to stays
    called = called or path
    if not path.is_dir():
        raise OutputExists(f"`{called}` is a file, which no folder replaces", hint="give another output")
    found = list(itertools.islice(record.strangers(path), SHOWN + 1))
    if found:
        more = " and more" if found[SHOWN:] else ""
        raise OutputExists(
            f"`{called}` holds what adaptr did not write, which even `--force` does not remove: "
            f"{', '.join(f'`{name}`' for name in found[:SHOWN])}{more}",
            hint="give another output, or move that elsewhere",
        )


def settled(path: Path) -> Path:
    """An output without links and `..` on the way to it, so that it means one place whatever is made meanwhile."""
    name = path.name if path.name not in {"", ".."} else ""
    return Path(os.path.realpath(path.parent)) / name if name else Path(os.path.realpath(path))


def _exists(path: Path) -> OutputExists:
    return OutputExists(f"`{path}` exists", hint="give `--force` to replace it, or another output")


def _precious(path: Path) -> str:
    """What a file is that must not be replaced, "" for any other."""
    if path.is_symlink():
        return ""  # it alone is replaced
    if not path.is_file():
        return "no plain file"
    with open(path, "rb") as file:
        start = file.read(16)
    if start[8:9] == b"{" and 8 + int.from_bytes(start[:8], "little") <= path.stat().st_size:
        return "" if record.is_ours(path) else "weights that adaptr did not write"
    what = next((what for magic, what in PRECIOUS if start.startswith(magic)), "")
    return "" if record.is_ours(path) else what


# ------------------------------------------------------------------ inputs


def require_apart(out: Path, inputs: Iterable[Path]) -> None:
    """Raises `OutputExists` where `out` is, holds or lies in an input, or what adaptr keeps of this user."""
    out = settled(out)
    mine, around, inside = _identity(out), _above(out), _inside(out)
    for path in inputs:
        own = _occupied(path)
        if mine & _identity(path):
            raise _refusal(out, "is", path)
        if (mine | around) & own:
            raise _refusal(out, "lies in", path)
        if (mine & _above(path)) or (inside & own):
            raise _refusal(out, "holds", path)
    for kept in (home() / name for name in KEPT):
        if os.path.lexists(kept) and ((mine | around) & _identity(kept) or mine & _above(kept)):
            raise _refusal(out, "is, holds or lies in", kept)


def _occupied(path: Path) -> set[Identity]:
    """The identities of an input and all that is in it, and of the files that links in it lead to."""
    inside = (one for one in itertools.islice(_below(path), MOST) if not (one.is_symlink() and one.is_dir()))
    return _identity(path).union(*map(_identity, inside))


def _refusal(out: Path, how: str, path: Path) -> OutputExists:
    return OutputExists(
        f"the output `{out}` {how} `{path}`, which is read or kept: writing could destroy it",
        hint="give another output",
    )


def _identity(path: Path) -> set[Identity]:
    """The identity of what a path leads to; none where there is nothing."""
    try:
        seen = os.stat(path)
    except (OSError, ValueError):
        return set()
    return {(seen.st_dev, seen.st_ino)}


def _above(path: Path) -> set[Identity]:
    """The folders that a path lies in, as it is written and as it leads."""
    found: set[Identity] = set()
    for way in (Path(os.path.abspath(path)), settled(path), path.resolve()):
        for folder in way.parents:
            found |= _identity(folder)
    return found


def _inside(out: Path) -> set[Identity]:
    """What is in a folder that would be replaced."""
    return set().union(*(_identity(path) for path in itertools.islice(_below(out), MOST)))


def _below(path: Path) -> Iterator[Path]:
    """All that is in a folder, links to folders not followed."""
    for folder, folders, files in os.walk(path):
        yield from (Path(folder) / name for name in (*folders, *files))
