"""Signatures of files and folders: `model.sig` in the folder, `NAME.sig` beside a file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from adaptr.errors import InputError, SignatureError, phrases
from adaptr.files import record
from adaptr.registry.signing import bundle, statement
from adaptr.registry.signing.bundle import Signer, Trust, Verified
from adaptr.registry.signing.statement import ALONE, Statement
from adaptr.untrusted import opened, whole

NAME, SUFFIX = "model.sig", ".sig"
#: What git keeps in a working folder: never part of what is signed, as in model_signing.
GIT = frozenset({".git", ".gitattributes", ".github", ".gitignore"})


def beside(path: Path) -> Path:
    """Where the signature of `path` is, unless said otherwise."""
    return path / NAME if path.is_dir() else path.with_name(f"{path.name}{SUFFIX}")


def sign(path: Path, signer: Signer, out: Path) -> bytes:
    """The bundle for what is at `path`, to be written to `out`. Raises `InputError` for links and empty folders."""
    files = hashed(path, out)
    inside = [str(out.absolute().relative_to(path.absolute()))] if _is_inside(out, path) else []
    kept = [record.NAME] if (path / record.NAME).is_file() else []
    ignored = (*inside, *kept, *sorted(GIT)) if path.is_dir() else ()
    return bundle.sign(Statement(path.absolute().name, files, {}, ignored), signer)


def proved(path: Path, signature: Path, trust: Trust) -> Verified:
    """Check what is at `path`. Raises `SignatureError`."""
    if not os.path.lexists(signature):
        raise SignatureError(
            f"`{path}` is not signed: there is no `{signature}`", hint="name another file with `--signature`"
        )
    found = bundle.proved(whole(signature, bundle.MAX), trust)
    here = hashed(path, signature)
    signed = found.statement.files
    if path.is_file() and len(signed) == 1 and ALONE not in signed:
        here = {path.name: here[ALONE]}
    statement.compare(signed, here, str(path))
    return found


def hashed(path: Path, signature: Path) -> dict[str, str]:
    """Name to sha256 of all files at `path` but the signature. Raises `InputError` for links and the like."""
    if path.is_symlink():
        raise InputError(f"`{path}` is a link", hint="sign what it leads to")
    if path.is_file():
        return {ALONE: _sha256(path)}
    if not path.is_dir():
        raise phrases.nothing_at(path)
    mine = signature.absolute()
    found = {}
    for file in listed(path):
        if file.absolute() != mine:
            found[file.relative_to(path).as_posix()] = _sha256(file)
    if not found:
        raise InputError(f"`{path}` holds no files", hint="name a folder with files, or a file")
    return found


def listed(folder: Path) -> list[Path]:
    """The files of a folder that a signature is about, and signatures. Raises `InputError` for links and the like."""
    return _walked(folder, folder)


def _walked(folder: Path, root: Path) -> list[Path]:
    found: list[Path] = []
    with os.scandir(folder) as entries:
        listed = sorted(entries, key=lambda entry: entry.name)
    for entry in listed:
        path = Path(entry.path)
        if folder == root and entry.name in {*GIT, record.NAME}:
            continue
        if entry.is_dir(follow_symlinks=False):
            found += _walked(path, root)
        elif entry.is_file(follow_symlinks=False):
            found.append(path)
        else:
            raise InputError(
                f"`{path}` is a link or no file: what it leads to could be changed without a trace",
                hint="put the file itself there",
            )
    return found


def _sha256(path: Path) -> str:
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_inside(path: Path, folder: Path) -> bool:
    return folder.is_dir() and path.absolute().is_relative_to(folder.absolute())
