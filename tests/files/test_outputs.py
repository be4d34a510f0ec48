"""What an output may replace: what adaptr wrote and nobody changed since; never an input, weights or a key."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from adaptr import files
from adaptr.errors import OutputExists
from adaptr.files import place, record

VECTOR = Path(__file__).resolve().parents[1] / "registry_spec/vectors/valid/minimal_lora.safetensors"


def output(path: Path) -> Path:
    with files.replacing_folder(path, force=True) as folder:
        (folder / "config.json").write_text("{}")
        (folder / "deep/er").mkdir(parents=True)
        (folder / "deep/er/weights").write_bytes(bytes(range(256)) * 4096)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


def replaced(path: Path) -> None:
    with files.replacing_folder(path, force=True) as folder:
        (folder / "new").write_text("new")


def add(out: Path) -> str:
    (out / "notes.txt").write_text("mine")
    return "notes.txt"


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


# ---------------------------------------------------------------- outputs of 0.1.0, which kept no record


def safetensors(path: Path, metadata: dict[str, str]) -> None:
    raw = json.dumps({"__metadata__": metadata}, separators=(",", ":")).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(raw).to_bytes(8, "little") + raw)


def old(kind: str, out: Path) -> Path:
    out.mkdir()
    if kind == "merge":
        document = {"base": {"headers": {"odd.safetensors": "sha256:"}}}
        for place_ in ("adaptr", "adaptr/parent"):
            safetensors(out / place_ / "receipt.safetensors", {"adaptr-receipt": json.dumps(document)})
            shutil.copyfile(VECTOR, out / place_ / "0123456789abcdef.adaptr.safetensors")
        safetensors(out / "odd.safetensors", {"format": "pt"})
        for name in ("config.json", "tokenizer.json", "generation_config.json"):
            (out / name).write_text("{}")
    elif kind == "peft":
        safetensors(out / "adapter_model.safetensors", {"adaptr.about": "{}", "format": "pt"})
        (out / "adapter_config.json").write_text("{}")
    else:
        shutil.copyfile(VECTOR, out / "adapter.adaptr.safetensors")
    return out


@pytest.mark.parametrize("kind", ["merge", "peft", "file"])
def test_an_output_of_before_is_known_by_its_receipt_or_header(tmp_path: Path, kind: str) -> None:
    replaced(old(kind, tmp_path / "out"))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(["new", record.NAME])


@pytest.mark.parametrize("kind", ["merge", "peft", "file"])
@pytest.mark.parametrize("name", ["README.md", "results.json", "model.safetensors", "optimizer.pt", "adaptr/mine.txt"])
def test_beside_it_anything_else_is_a_stranger(tmp_path: Path, kind: str, name: str) -> None:
    out = old(kind, tmp_path / "out")
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_text("mine")
    with pytest.raises(OutputExists, match=f"`{name if kind == 'merge' else name.partition('/')[0]}"):
        replaced(out)
    assert (out / name).read_text() == "mine"


@pytest.mark.parametrize("first", [b"", b"\xff" * 16, b"{}", (1 << 62).to_bytes(8, "little") + b"{"])
def test_a_receipt_that_is_none_makes_nothing_ours(tmp_path: Path, first: bytes) -> None:
    out = old("merge", tmp_path / "out")
    (out / "adaptr/receipt.safetensors").write_bytes(first)
    with pytest.raises(OutputExists):
        replaced(out)


def test_peft_weights_of_others_are_theirs(tmp_path: Path) -> None:
    out = old("peft", tmp_path / "out")
    safetensors(out / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(OutputExists, match=r"`adapter_model\.safetensors`"):
        replaced(out)


# ---------------------------------------------------------------- files


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
    with pytest.raises(OutputExists, match="even `--force`"):
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


# ---------------------------------------------------------------- inputs


def refused(out: Path, read: Path) -> bool:
    for require in (place.require_file, place.require_folder):
        try:
            require(out, True, [read])
        except OutputExists as error:
            if str(read) not in str(error):
                return False
        else:
            return False
    return True


def test_an_output_that_holds_another_name_of_an_input(tmp_path: Path) -> None:
    """A hard link to it, or a folder that is mounted twice, has no name in common with it."""
    out, base = output(tmp_path / "out"), tmp_path / "base"
    base.mkdir()
    os.link(out / "config.json", base / "config.json")
    assert refused(out, base)
    assert refused(out, base / "config.json")


@pytest.mark.parametrize("require", [place.require_file, place.require_folder])
def test_a_way_over_a_folder_that_is_not_there_yet_leads_to_what_is(tmp_path: Path, require) -> None:
    """`new/..` is nothing until something makes `new`: what lies there is seen before the work, not after it."""
    (tmp_path / "f").write_text("mine")
    with pytest.raises(OutputExists, match="exists"):
        require(tmp_path / "new" / ".." / "f", False, [])


def test_folders_beside_an_input_are_free(tmp_path: Path) -> None:
    base = output(tmp_path / "base")
    (base / "data").symlink_to(tmp_path)  # a link to a folder takes nothing in
    for out in (tmp_path / "new", tmp_path / "base2", output(tmp_path / "old")):
        place.require_folder(out, True, [base, base / "config.json", tmp_path / "nothing"])
        place.require_file(out / "f", True, [base, base / "config.json"])


def test_the_same_disk_mounted_twice(tmp_path: Path) -> None:
    base, alias = output(tmp_path / "models/base"), tmp_path / "alias"
    alias.mkdir()
    ran = subprocess.run(["mount", "--bind", tmp_path / "models", alias], capture_output=True, text=True)
    if ran.returncode:
        pytest.skip(f"nothing can be mounted here: {ran.stderr.strip()}")
    try:
        assert refused(alias, base)
        assert refused(alias / "base", base)
        assert refused(alias / "base/new", base)
        assert refused(base, alias / "base")
        assert refused(tmp_path / "models", alias / "base")
    finally:
        subprocess.run(["umount", "-l", alias], check=True)


def test_names_in_other_letters_where_they_are_the_same(tmp_path: Path) -> None:
    base = output(tmp_path / "base")
    if not (tmp_path / "BASE").exists():
        pytest.skip("this file system takes `BASE` for another name than `base`")
    assert refused(tmp_path / "BASE", base)
