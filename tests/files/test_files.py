"""Outputs appear whole or not at all, whatever happens in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from adaptr import files
from adaptr.errors import DiskFull, MachineError, OutputExists
from adaptr.files import record

VECTOR = Path(__file__).resolve().parents[2] / "registry_spec/vectors/valid/minimal_lora.safetensors"


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith(files.MARK)]


def fill(folder: Path, name: str = "new") -> None:
    (folder / name).write_text("new")


def written(folder: Path, name: str = "old") -> Path:
    """An output as adaptr writes it, with one file."""
    with files.replacing_folder(folder, force=True) as made:
        fill(made, name)
    return folder


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name != record.NAME)


def test_a_file_appears_at_the_end(tmp_path):
    out = tmp_path / "deep/er/out"
    with files.replacing(out) as file:
        file.write(b"new")
        assert not out.exists()
        assert len(leftovers(out.parent)) == 1
    assert out.read_bytes() == b"new"
    assert leftovers(out.parent) == []


def test_outputs_have_the_permissions_of_this_user(tmp_path):
    before = os.umask(0o027)
    try:
        with files.replacing(tmp_path / "f"):
            pass
        with files.replacing_folder(tmp_path / "d"):
            pass
    finally:
        os.umask(before)
    assert oct((tmp_path / "f").stat().st_mode & 0o777) == "0o640"
    assert oct((tmp_path / "d").stat().st_mode & 0o777) == "0o750"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path, error):
    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(error), files.replacing(tmp_path / "out", force=True) as file:  # noqa: PT012
        file.write(b"new")
        raise error
    written(tmp_path / "folder")
    with pytest.raises(error), files.replacing_folder(tmp_path / "folder", force=True) as folder:  # noqa: PT012
        fill(folder)
        raise error
    assert (tmp_path / "out").read_bytes() == b"old"
    assert names(tmp_path / "folder") == ["old"]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("exchange", [True, False], ids=["in one step", "in two"])
@pytest.mark.parametrize("before", ["nothing", "empty folder", "folder", "link"])
def test_a_folder_replaces_what_was_there(tmp_path, monkeypatch, before, exchange):
    if not exchange:
        monkeypatch.setattr(files, "_exchanged", lambda a, b: False)
    out = tmp_path / "out"
    if before == "empty folder":
        out.mkdir()
    if before == "folder":
        written(out)
    if before == "link":
        out.symlink_to(tmp_path / "elsewhere")
    with files.replacing_folder(out, force=before not in {"nothing", "empty folder"}) as folder:
        fill(folder)
    assert names(out) == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_folder_is_replaced_in_one_step_where_the_system_can(tmp_path, monkeypatch):
    written(tmp_path / "a")
    (tmp_path / "b").mkdir()
    if not files._exchanged(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system can't exchange two names")
    files._exchanged(tmp_path / "a", tmp_path / "b")
    monkeypatch.setattr(os, "rename", lambda a, b: pytest.fail("a kill between two renames would lose the folder"))
    with files.replacing_folder(tmp_path / "a", force=True) as folder:
        fill(folder)
    assert names(tmp_path / "a") == ["new"]


def test_two_steps_that_fail_in_the_middle_are_taken_back(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_exchanged", lambda a, b: False)
    out, rename = tmp_path / "out", os.rename
    written(out)

    def failing(a, b):
        if Path(b) == out and (Path(a) / "new").exists():
            raise OSError(5, "Input/output error", str(b))
        rename(a, b)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(MachineError), files.replacing_folder(out, force=True) as folder:
        fill(folder)
    assert names(out) == ["old"]
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_nothing_is_overwritten_unasked(tmp_path, kind):
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("old")
    elif kind == "folder":
        out.mkdir()
        fill(out, "old")
    else:
        out.symlink_to(tmp_path / "nowhere")
    for opened in (files.replacing, files.replacing_folder):
        with pytest.raises(OutputExists), opened(out):
            pytest.fail("the block must not run")
    assert os.path.lexists(out)


def test_a_file_never_replaces_a_folder(tmp_path):
    with pytest.raises(OutputExists, match="is a folder"), files.replacing(tmp_path, force=True):
        pytest.fail("the block must not run")


def test_a_path_through_a_file_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="can't be written"), files.replacing(tmp_path / "file/out"):
        pytest.fail("the block must not run")


def test_a_failure_to_read_something_else_is_not_blamed_on_the_output(tmp_path):
    with pytest.raises(FileNotFoundError), files.replacing(tmp_path / "out"):
        (tmp_path / "input").read_bytes()
    assert leftovers(tmp_path) == []


def test_a_folder_that_may_not_be_written_is_said(tmp_path):
    script = (
        "import os, sys; from pathlib import Path; from adaptr import errors, files\n"
        "if os.getuid() == 0: os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try:\n"
        "    with files.replacing(Path(sys.argv[1])): pass\n"
        "except errors.MachineError as error: print(error)\n"
    )
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o001 == 0 and folder.owner() == "root":
            folder.chmod(0o711)
    out = subprocess.run([sys.executable, "-c", script, locked / "out"], capture_output=True, text=True)
    if "Permission" in out.stderr:
        pytest.skip(f"another user can't run this Python: {out.stderr[-200:]}")
    assert "can't be written: Permission denied" in out.stdout


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_full_disk_leaves_what_was_there(small_disk):
    out = small_disk / "out"
    out.write_bytes(b"old")
    with pytest.raises(DiskFull, match="nothing was left behind"), files.replacing(out, force=True) as file:
        file.write(bytes(1 << 20))
    with pytest.raises(DiskFull), files.replacing_folder(small_disk / "folder") as folder:
        (folder / "a").write_bytes(bytes(1 << 20))
    assert [p.name for p in small_disk.iterdir()] == ["out"]
    assert out.read_bytes() == b"old"


def test_an_adapter_that_does_not_fit_leaves_the_old_one(small_disk):
    import torch

    from adaptr import Adapter, Target
    from adaptr.format import read, write

    out = small_disk / "a.safetensors"
    write(read(VECTOR), out)
    large = Adapter("acme", {}, {"q": Target("q", "linear", (1, 1))}, {"q:A": torch.zeros(100_000)})
    with pytest.raises(DiskFull):
        write(large, out, force=True)
    assert out.read_bytes() == VECTOR.read_bytes()
    assert leftovers(small_disk) == []


@pytest.mark.parametrize("verb", ["replacing", "replacing_folder"])
def test_a_kill_in_the_middle_leaves_what_was_there(tmp_path, verb):
    out = tmp_path / "out"
    if verb == "replacing":
        out.write_bytes(VECTOR.read_bytes())
    else:
        with files.replacing_folder(out) as made:
            (made / "a.safetensors").write_bytes(VECTOR.read_bytes())
    script = (
        "import sys, time; from pathlib import Path; from adaptr import files\n"
        f"with files.{verb}(Path(sys.argv[1]), force=True) as made:\n"
        "    made = (made / 'a.safetensors').open('wb') if isinstance(made, Path) else made\n"
        "    made.write(b'half'); made.flush(); print('written', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, out], stdout=subprocess.PIPE)
    assert process.stdout
    with process.stdout:
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    found = out if verb == "replacing" else out / "a.safetensors"
    assert found.read_bytes() == VECTOR.read_bytes()
    assert len(leftovers(tmp_path)) == 1


def test_a_kill_at_any_moment_leaves_a_whole_folder(tmp_path):
    """A process that replaces a folder for ever is killed: the folder is there, with one whole generation in it."""
    out = tmp_path / "out"
    script = (
        "import sys; from pathlib import Path; from adaptr import files\n"
        "for n in range(10**9):\n"
        "    with files.replacing_folder(Path(sys.argv[1]), force=True) as made:\n"
        "        for name in 'ab': (made / name).write_text(str(n))\n"
        "    if n == 2: print('going', flush=True)\n"
    )
    for delay in (0.0, 0.003, 0.007, 0.011):
        process = subprocess.Popen([sys.executable, "-c", script, out], stdout=subprocess.PIPE)
        assert process.stdout
        with process.stdout:
            process.stdout.readline()
            time.sleep(delay)
            process.kill()
            process.wait()
        assert (out / "a").read_text() == (out / "b").read_text()
