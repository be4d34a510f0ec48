from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adaptr import api
from adaptr.adapter import Base
from adaptr.format import digest

KEYS = {
    "source", "source_format", "out", "format", "method", "targets", "tensors", "kept", "renamed", "lost", "unplaced",
    "digest",
}  # fmt: skip


def test_there_and_back(adaptr: Callable, lora: Path, tmp_path: Path) -> None:
    there = adaptr("convert", lora, "--to", "peft", "-o", tmp_path / "peft", "--json")
    assert (there.code, set(there.json)) == (0, KEYS)
    assert (there.json["format"], there.json["lost"]) == ("peft", [])
    back = adaptr("convert", tmp_path / "peft", "-o", tmp_path / "back.safetensors")
    assert back.code == 0
    assert "nothing" in back.out
    assert digest.of_adapter(api.load(tmp_path / "back.safetensors")) == digest.of_adapter(api.load(lora))


def test_nothing_is_overwritten_unless_asked(adaptr: Callable, lora: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    out.write_text("mine")
    assert adaptr("convert", lora, "-o", out, "--json").refused == (2, "OutputExists")
    assert out.read_text() == "mine"
    assert adaptr("convert", lora, "-o", out, "--force", "--quiet").out == ""
    assert api.load(out).name == "style"


def test_what_the_other_format_cannot_hold_is_refused(adaptr: Callable, houlsby: Path, tmp_path: Path) -> None:
    ran = adaptr("convert", houlsby, "--to", "peft", "-o", tmp_path / "peft", "--json")
    assert ran.code in (3, 5)
    assert "houlsby" in ran.json["error"]["message"]
    assert not (tmp_path / "peft").exists()


def test_usage(adaptr: Callable, lora: Path, tmp_path: Path) -> None:
    assert adaptr("convert", lora, "--json").refused == (2, "UsageError")
    assert adaptr("convert", lora, "-o", tmp_path / "x", "--to", "pdf", "--json").refused == (2, "UsageError")
    assert adaptr("convert", tmp_path / "nothing", "-o", tmp_path / "x", "--json").refused == (3, "InputError")


def test_a_server_gets_the_names_of_the_base(adaptr: Callable, lora: Path, llama: Path, tmp_path: Path) -> None:
    one = api.load(lora)
    bare = one.renamed({path: path.removeprefix("model.") for path in one.targets}).replace(base=Base())
    api.save(bare, tmp_path / "bare.safetensors")
    asked = ("convert", tmp_path / "bare.safetensors", "--for", "vllm", "-o", tmp_path / "out", "--json")
    assert adaptr(*asked).refused == (5, "Unsupported")
    assert adaptr(*asked, "--base", llama).code == 0
    assert set(api.load(tmp_path / "out").targets) == set(one.targets)


def test_a_change_of_format_takes_no_dtype(adaptr: Callable) -> None:
    ran = adaptr("convert", "a", "-o", "b", "--dtype", "bf16")
    assert (ran.code, "--dtype goes with --method" in ran.err) == (2, True)
