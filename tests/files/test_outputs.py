"""What an output may replace: what adaptr wrote and nobody changed since; never an input, weights or a key."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from adaptr import files
from adaptr.errors import OutputExists
from adaptr.files import record
from files.outputs import add, output, replaced, tree


def add_hidden(out: Path) -> str:
    (out / ".git").mkdir()
    (out / ".git/HEAD").write_text("ref")
    return ".git/"


def add_deep(out: Path) -> str:
    (out / "deep/er/mine").write_text("mine")
    return "deep/er/mine"


def add_an_empty_folder(out: Path) -> str:
    (out / "deep/empty").mkdir()
    return "deep/empty/"


def edit(out: Path) -> str:
    (out / "config.json").write_text("[]")
    return "config.json (changed since)"


def edit_weights(out: Path) -> str:
    (out / "deep/er/weights").write_bytes(bytes(range(255, -1, -1)) * 4096)
    return "deep/er/weights (changed since)"


def link_a_file(out: Path) -> str:
    (out / "config.json").rename(out.parent / "elsewhere.json")
    (out / "config.json").symlink_to(out.parent / "elsewhere.json")
    return "config.json"


def link_a_folder(out: Path) -> str:
    (out / "deep").rename(out.parent / "elsewhere")
    (out / "deep").symlink_to(out.parent / "elsewhere")
    return "deep"


def a_folder_for_a_file(out: Path) -> str:
    (out / "config.json").unlink()
    (out / "config.json").mkdir()
    return "config.json/"


def a_pipe(out: Path) -> str:
    os.mkfifo(out / "pipe")
    return "pipe"


def damage_the_record(out: Path) -> str:
    (out / record.NAME).write_text("[" * 100_000)
    return record.NAME


def link_the_record(out: Path) -> str:
    (out / record.NAME).rename(out.parent / "record")
    (out / record.NAME).symlink_to(out.parent / "record")
    return record.NAME


CHANGES = [
    add, add_hidden, add_deep, add_an_empty_folder, edit, edit_weights, link_a_file, link_a_folder, a_folder_for_a_file,
    a_pipe, damage_the_record, link_the_record,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_adaptr_did_not_write_is_named_and_stays(tmp_path: Path, change) -> None:
    out = output(tmp_path / "out")
    name = change(out)
    before = {p: (p.lstat().st_ino, p.lstat().st_mtime_ns) for p in out.rglob("*")}
    with pytest.raises(OutputExists) as refused:
        replaced(out)
    assert f"`{name}`" in str(refused.value)
    assert {p: (p.lstat().st_ino, p.lstat().st_mtime_ns) for p in out.rglob("*")} == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith((files.MARK, files.OLD))]


@pytest.mark.parametrize("exchange", [True, False], ids=["in one step", "in two"])
def test_what_comes_in_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        monkeypatch.setattr(files, "_exchanged", lambda a, b: False)
    out = output(tmp_path / "out")
    with pytest.raises(OutputExists, match=r"`notes\.txt`"), files.replacing_folder(out, force=True):  # noqa: PT012
        add(out)
        before = tree(out)
    assert tree(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_copy_of_an_output_is_one(tmp_path: Path) -> None:
    shutil.copytree(output(tmp_path / "out"), tmp_path / "copy")
    os.utime(tmp_path / "copy/config.json", (0, 0))
    replaced(tmp_path / "copy")
    assert (tmp_path / "copy/new").exists()


def test_files_that_are_gone_are_not_missed(tmp_path: Path) -> None:
    shutil.rmtree(output(tmp_path / "out") / "deep")
    replaced(tmp_path / "out")
    assert not (tmp_path / "out/config.json").exists()


def test_many_strangers_are_not_all_named(tmp_path: Path) -> None:
    for i in range(100):
        (tmp_path / f"{i:03}").write_text("")
    with pytest.raises(OutputExists, match="`007` and more") as refused:
        replaced(tmp_path)
    assert "`008`" not in str(refused.value)


def test_the_record_is_the_same_for_the_same_files(tmp_path: Path) -> None:
    one, two = (output(tmp_path / name) / record.NAME for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    assert list(json.loads(one.read_text())["files"]) == ["config.json", "deep/er/weights"]


@pytest.mark.parametrize("size", [2, record.BLOCK * record.BLOCKS, record.BLOCK * record.BLOCKS + 1, 1 << 20])
def test_a_fingerprint_is_of_size_and_ends(tmp_path: Path, size: int) -> None:
    file = tmp_path / "f"
    prints = set()
    for data in (bytes(size), bytes(size + 1), b"x" + bytes(size - 1), bytes(size - 1) + b"x"):
        file.write_bytes(data)
        prints.add(record.fingerprint(file))
    assert len(prints) == 4


def test_a_long_file_costs_no_more_than_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, count, at: (read.append(count), real(fd, count, at))[1])
    with open(tmp_path / "long", "wb") as file:
        file.truncate(1 << 40)
    assert record.fingerprint(tmp_path / "long").startswith("sha256:")
    assert sum(read) <= record.BLOCK * record.BLOCKS
