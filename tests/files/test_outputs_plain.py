"""What an output of one file may replace: never weights, keys, or what is no file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adaptr import files
from adaptr.errors import OutputExists
from files.outputs import VECTOR, add, replaced


def write(path: Path) -> None:
    with files.replacing(path, force=True) as file:
        file.write(b"new")


@pytest.mark.parametrize("held", [b"", b"a thesis", b"{}", b"12345678{}", VECTOR.read_bytes()], ids=range(5))
def test_a_plain_file_that_is_named_is_replaced(tmp_path: Path, held: bytes) -> None:
    (tmp_path / "f").write_bytes(held)
    write(tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"new"


@pytest.mark.parametrize(
    "held",
    [
        (2).to_bytes(8, "little") + b"{}", b"GGUF\3\0\0\0", b"PK\3\4rest", b"\x80\2}.",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\n",
    ],
    ids=["safetensors", "gguf", "zip", "pickle", "key"],
)  # fmt: skip
def test_weights_of_others_and_keys_are_not(tmp_path: Path, held: bytes) -> None:
    (tmp_path / "f").write_bytes(held)
    with pytest.raises(OutputExists, match="even `force=True`"):
        write(tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == held


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_not(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "pipe" if kind == "pipe" else Path(os.devnull)
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(OutputExists, match="no plain file"):
        write(path)


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    write(tmp_path / "link")
    assert ((tmp_path / "target").read_bytes(), (tmp_path / "link").read_bytes()) == (b"old", b"new")
    (tmp_path / "folder").mkdir()
    add(tmp_path / "folder")
    (tmp_path / "also").symlink_to("folder")
    replaced(tmp_path / "also")
    assert (tmp_path / "folder/notes.txt").read_text() == "mine"


def test_a_folder_never_replaces_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("mine")
    with pytest.raises(OutputExists, match="is a file"):
        replaced(tmp_path / "f")
    assert (tmp_path / "f").read_text() == "mine"
