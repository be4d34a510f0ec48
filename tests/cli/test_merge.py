"""merge, verify and unmerge as commands; what they compute is held by tests/merging."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import checkpoints as c
import tiny
from adaptr import api
from adaptr.adapter import Target
from adaptr.format import digest
from adaptr.format.io import open_tensors

MERGE_KEYS = {
    "out", "targets", "tensors", "bytes", "relative_delta", "unchanged", "adapters", "tied", "added", "receipt_bytes",
    "seconds", "notes",
}  # fmt: skip
VERIFY_KEYS = {
    "merged", "ok", "exact", "tensors", "recomputed", "elements", "different", "error", "differences",
}  # fmt: skip
UNMERGE_KEYS = {"out", "tensors", "bytes", "adapters", "seconds"}


@pytest.fixture(scope="module")
def merged(llama: Path, lora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("merged") / "model"
    api.merge(llama, [(lora, 0.5)], out)
    return out


def test_merge_verify_unmerge(adaptr: Callable, llama: Path, lora: Path, tmp_path: Path) -> None:
    merged = adaptr("merge", llama, f"{lora}=0.5", "-o", tmp_path / "merged", "--json")
    assert (merged.code, MERGE_KEYS - set(merged.json)) == (0, set())
    assert (merged.json["targets"], merged.json["adapters"][0]["weight"]) == (4, 0.5)
    proof = adaptr("verify", tmp_path / "merged", "--base", llama, "--adapter", f"{lora}=0.5", "--json")
    assert (proof.code, VERIFY_KEYS - set(proof.json)) == (0, set())
    assert proof.json["exact"]
    back = adaptr("unmerge", tmp_path / "merged", "-o", tmp_path / "back", "--json")
    assert (back.code, UNMERGE_KEYS - set(back.json)) == (0, set())
    weights = "model.safetensors"
    assert digest.of_file(tmp_path / "back" / weights) == digest.of_file(llama / weights)


def test_the_text_says_what_was_done(adaptr: Callable, llama: Path, lora: Path, tmp_path: Path) -> None:
    said = adaptr("merge", llama, lora, "-o", tmp_path / "merged").out
    for word in ("style (lora, weight 1)", "4 changed", "% of the weights' size", "receipt"):
        assert word in said
    proof = adaptr("verify", tmp_path / "merged", "--base", llama, "--adapter", lora)
    assert "proven" in proof.out
    assert "each equal to the base's sha256" in adaptr("unmerge", tmp_path / "merged", "-o", tmp_path / "b").out
    assert adaptr("merge", llama, lora, "-o", tmp_path / "merged", "--force", "-q").out == ""


def test_a_failed_verification_is_1_and_says_where(adaptr: Callable, llama: Path, lora: Path, merged: Path) -> None:
    ran = adaptr("verify", merged, "--base", llama, "--adapter", lora)  # at another weight
    assert ran.code == 1
    assert "NOT PROVEN" in ran.out
    assert "q_proj" in ran.out
    data = adaptr("verify", merged, "--base", llama, "--adapter", lora, "--json")
    assert (data.code, data.json["ok"], len(data.json["differences"])) == (1, False, 4)


def test_what_can_not_be_merged_is_refused(adaptr: Callable, llama: Path, houlsby: Path, tmp_path: Path) -> None:
    ran = adaptr("merge", llama, houlsby, "-o", tmp_path / "out", "--json")
    assert ran.refused == (5, "NotMergeable")
    assert "non-linear" in ran.json["error"]["message"]
    assert list(tmp_path.iterdir()) == []


def test_wrong_base_and_bad_input(adaptr: Callable, bert: Path, llama: Path, lora: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "out", "--json")
    assert adaptr("merge", bert, lora, *out).refused == (4, "TargetNotFound")
    assert adaptr("merge", tmp_path / "nowhere", lora, *out).code == 3
    assert adaptr("merge", llama, tmp_path / "nothing", *out).refused == (3, "InputError")
    assert adaptr("unmerge", llama, *out).refused == (5, "NotMerged")
    assert list(tmp_path.iterdir()) == []


def test_without_a_receipt_nothing_can_be_taken_out(adaptr: Callable, llama: Path, lora: Path, tmp_path: Path) -> None:
    assert adaptr("merge", llama, lora, "-o", tmp_path / "merged", "--no-receipt").code == 0
    ran = adaptr("unmerge", tmp_path / "merged", "-o", tmp_path / "back", "--json")
    assert ran.refused == (5, "NotMerged")
    assert "--no-receipt" in ran.json["error"]["message"]


def test_an_output_that_is_there_stays(adaptr: Callable, llama: Path, lora: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    assert adaptr("merge", llama, lora, "-o", tmp_path / "out", "--json").refused == (2, "OutputExists")
    assert (tmp_path / "out" / "mine").read_text() == "mine"


def test_a_changed_weight_is_noticed(adaptr: Callable, merged: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in merged.rglob("*"):
        there = copy / path.relative_to(merged)
        if path.is_dir():
            there.mkdir()
        else:
            there.write_bytes(path.read_bytes())
    header = open_tensors(copy / "model.safetensors").header
    with open(copy / "model.safetensors", "r+b") as file:
        file.seek(header.data + header.entries["model.layers.0.self_attn.q_proj.weight"].start)
        file.write(b"\x01\x02\x03\x04")
    ran = adaptr("unmerge", copy, "-o", tmp_path / "back", "--json")
    assert ran.refused == (7, "DigestMismatch")
    assert not (tmp_path / "back").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(adaptr: Callable, llama: Path, lora: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert adaptr("merge", llama, lora, "-o", tmp_path / "out", "--json").refused == (8, "MachineError")


def test_a_place_that_can_not_be_made_is_the_machines(adaptr: Callable, lora: Path) -> None:
    ran = adaptr("convert", lora, "-o", "/proc/nothing/out.safetensors", "--json")
    assert ran.refused == (8, "MachineError")


def on_a_terminal(columns: int, *arguments: str, **env: str) -> str:
    """What a command writes to a terminal of that width, standard output and error together."""
    here, there = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color", **env}
    command = [sys.executable, "-m", "adaptr", *arguments]
    with subprocess.Popen(command, stdout=there, stderr=there, stdin=there, env=environment) as process:
        os.close(there)
        text = b""
        try:
            while block := os.read(here, 65536):
                text += block
        except OSError:  # the other end is closed
            pass
        os.close(here)
    assert process.returncode == 0, text
    return text.decode()


CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.mark.parametrize("columns", [80, 120])
def test_lines_fit_the_terminal(columns: int, lora: Path) -> None:
    for arguments in (("methods",), ("methods", "lora"), ("inspect", str(lora))):
        lines = CODES.sub("", on_a_terminal(columns, *arguments)).splitlines()
        assert max(map(len, lines)) <= columns, arguments
        assert len(lines) > 5


def test_a_terminal_gets_colours_and_a_bar_unless_it_says_no(llama: Path, lora: Path, tmp_path: Path) -> None:
    merge = ("merge", str(llama), str(lora), "--force", "-o", str(tmp_path / "out"))
    assert "merging" in on_a_terminal(80, *merge)
    assert "merging" not in on_a_terminal(80, *merge, "--quiet")
    assert "\x1b[" in on_a_terminal(80, "methods")
    assert "\x1b[" not in on_a_terminal(80, "methods", NO_COLOR="1")


@pytest.mark.parametrize("way", ["both", "untie"])
def test_a_merge_of_tied_weights_is_verified_as_it_was_made(adaptr: Callable, tmp_path: Path, way: str) -> None:
    base = c.saved("gpt2", tmp_path / "base")
    api.save(c.lora_at(Target("lm_head", "linear", (tiny.VOCAB, tiny.WIDTH))), tmp_path / "head.safetensors")
    adapter = tmp_path / "head.safetensors"
    assert adaptr("merge", base, adapter, "-o", tmp_path / "out", "--tied", way).code == 0
    ask = ("verify", tmp_path / "out", "--base", base, "--adapter", adapter)
    assert adaptr(*ask, "--tied", way).code == 0
    assert adaptr(*ask, "--json").json["tied"] == way  # by the receipt
    assert adaptr(*ask, "--tied", {"both": "untie", "untie": "both"}[way]).code == 1
