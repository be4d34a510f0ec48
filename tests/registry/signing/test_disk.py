"""Signatures of folders and files: whose, of what, and what changed since."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptr.artifacts import trust
from adaptr.errors import InputError, OutputExists, SignatureError, UsageError
from registry.signers import CURVES, key, sign


@pytest.mark.parametrize("bits", CURVES)
def test_a_folder_is_signed_and_verified(folder: Path, tmp_path: Path, bits: int) -> None:
    private, public = key(tmp_path / "k.key", bits)
    made = sign(folder, private)
    assert made.out == str(folder / "model.sig")
    proven = trust.proven(str(folder), [public])
    assert (proven.files, proven.signers[0]["key"]) == (3, made.fingerprint)
    assert proven.signers[0]["certificate"] == ""


def test_the_same_content_and_key_give_the_same_signature(folder: Path, mine: tuple[Path, Path]) -> None:
    sign(folder, mine[0])
    first = (folder / "model.sig").read_bytes()
    with pytest.raises(OutputExists):
        sign(folder, mine[0])
    sign(folder, mine[0], force=True)
    assert (folder / "model.sig").read_bytes() == first


def test_a_file_may_be_renamed_but_not_changed(folder: Path, mine: tuple[Path, Path]) -> None:
    file = folder / "a.safetensors"
    sign(file, mine[0])
    moved = file.rename(folder / "b.safetensors")
    signature = folder / "a.safetensors.sig"
    assert trust.proven(str(moved), [mine[1]], (), signature).files == 1
    moved.write_text("else")
    with pytest.raises(SignatureError, match="changed since"):
        trust.proven(str(moved), [mine[1]], (), signature)


def change(folder: Path) -> None:
    (folder / "sub/b.json").write_text("sub/b.jsoN")


def add(folder: Path) -> None:
    (folder / "sub/more.py").write_text("")


def remove(folder: Path) -> None:
    (folder / "sub.txt").unlink()


def rename(folder: Path) -> None:
    (folder / "sub.txt").rename(folder / "sub/txt")


def link(folder: Path) -> None:
    (folder / "sub.txt").rename(folder.parent / "away")
    (folder / "sub.txt").symlink_to(folder.parent / "away")


def link_folder(folder: Path) -> None:
    (folder / "sub").rename(folder.parent / "away")
    (folder / "sub").symlink_to(folder.parent / "away")


def fifo(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (change, "`sub/b.json` changed since"),
        (add, "`sub/more.py` there and not signed"),
        (remove, "`sub.txt` signed and not there"),
        (rename, "`sub.txt` signed and not there; `sub/txt` there and not signed"),
        (link, "is a link"),
        (link_folder, "is a link"),
        (fifo, "is a link or no file"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_changed_is_named(folder: Path, mine: tuple[Path, Path], harm: Callable[[Path], None], said: str) -> None:
    sign(folder, mine[0])
    harm(folder)
    with pytest.raises((SignatureError, InputError), match=said):
        trust.proven(str(folder), [mine[1]])


def test_git_and_the_signature_itself_are_no_part_of_it(folder: Path, mine: tuple[Path, Path]) -> None:
    sign(folder, mine[0])
    (folder / ".git").mkdir()
    (folder / ".git/config").write_text("")
    (folder / ".gitattributes").write_text("")
    trust.proven(str(folder), [mine[1]])
    (folder / "sub/.gitattributes").write_text("")
    with pytest.raises(SignatureError, match="not signed"):
        trust.proven(str(folder), [mine[1]])


def test_another_key_is_refused_and_one_of_several_is_enough(
    folder: Path, mine: tuple[Path, Path], tmp_path: Path
) -> None:
    other = key(tmp_path / "other.key", 384)
    sign(folder, mine[0])
    with pytest.raises(SignatureError, match="not by a trusted key"):
        trust.proven(str(folder), [other[1]])
    trust.proven(str(folder), [other[1], mine[1]])
    with pytest.raises(UsageError, match="whom you trust"):
        trust.proven(str(folder))


def test_what_is_not_signed_is_said(folder: Path, mine: tuple[Path, Path]) -> None:
    with pytest.raises(SignatureError, match="not signed"):
        trust.proven(str(folder), [mine[1]])
