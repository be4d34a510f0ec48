"""What push says of what it publishes, and what pull and convert write: the very file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))


def test_a_file_is_pulled_as_the_file_that_was_pushed(lora: Path, tmp_path: Path, adaptr: Callable) -> None:
    where, out = f"file://{tmp_path}/layout#style", tmp_path / "again.safetensors"
    assert adaptr("push", lora, where).code == 0
    assert adaptr("pull", where, "-o", out).code == 0
    assert out.read_bytes() == lora.read_bytes()
    assert adaptr("pull", where, "-o", out, "--json").refused == (2, "OutputExists")
    assert adaptr("pull", where, "-o", out, "--force").code == 0
    assert adaptr("pull", where, "-o", tmp_path / "folder").code == 0
    assert (tmp_path / "folder").is_dir()


def test_an_artifact_of_several_files_is_not_written_to_one(lora: Path, tmp_path: Path, adaptr: Callable) -> None:
    assert adaptr("convert", lora, "--to", "peft", "-o", tmp_path / "peft").code == 0
    where = f"file://{tmp_path}/layout#peft"
    assert adaptr("push", tmp_path / "peft", where).code == 0
    ran = adaptr("pull", where, "-o", tmp_path / "one.safetensors", "--json")
    assert ran.refused == (2, "UsageError")
    assert not (tmp_path / "one.safetensors").exists()


def test_push_says_what_it_leaves_out_and_why(lora: Path, tmp_path: Path, adaptr: Callable) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    shutil.copyfile(lora, folder / "adapter.adaptr.safetensors")
    (folder / "training_args.bin").write_bytes(b"\x80\x1b[31m")
    (folder / "picture.png").touch()
    (folder / "checkpoint-1").mkdir()
    left = adaptr("push", folder, f"file://{tmp_path}/layout#run", "--json").json["left"]
    assert left.keys() == {"training_args.bin", "picture.png", "checkpoint-1"}
    assert "pickle" in left["training_args.bin"]


def test_a_base_model_is_announced(llama: Path, lora: Path, tmp_path: Path, adaptr: Callable) -> None:
    assert "is a base model" in adaptr("push", llama, f"file://{tmp_path}/layout#base").err
    assert "base model" not in adaptr("push", lora, f"file://{tmp_path}/layout#style").err


def test_a_copy_in_the_own_format_has_the_same_bytes(lora: Path, tmp_path: Path, adaptr: Callable) -> None:
    assert adaptr("convert", lora, "-o", tmp_path / "copy.safetensors").code == 0
    assert (tmp_path / "copy.safetensors").read_bytes() == lora.read_bytes()


def test_a_merge_without_a_receipt_says_so(llama: Path, lora: Path, tmp_path: Path, adaptr: Callable) -> None:
    ran = adaptr("merge", llama, lora, "-o", tmp_path / "out", "--no-receipt")
    assert "can't be unmerged" in ran.out
