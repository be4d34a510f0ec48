from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adaptr import api

KEYS = {
    "source", "out", "format", "method_before", "method", "targets", "exact", "error", "worst", "ranks",
    "numbers_before", "numbers", "biases", "replaced", "lost", "digest", "seconds",
}  # fmt: skip


def test_the_error_is_printed(adaptr: Callable, lora: Path, tmp_path: Path) -> None:
    ran = adaptr("resize", lora, "--rank", "2", "-o", tmp_path / "small.safetensors")
    assert ran.code == 0
    assert "% of the change" in ran.out
    assert "ranks    2" in ran.out
    assert api.load(tmp_path / "small.safetensors").config["r"] == 2


def test_json(adaptr: Callable, lora: Path, tmp_path: Path) -> None:
    ran = adaptr("resize", lora, "--energy", "0.9", "-o", tmp_path / "small.safetensors", "--json")
    assert (ran.code, set(ran.json)) == (0, KEYS)
    assert 0 < ran.json["error"] < 0.1**0.5
    assert adaptr("resize", lora, "--rank", "2", "-o", tmp_path / "x", "--quiet").out == ""


def test_refusals(adaptr: Callable, lora: Path, houlsby: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    assert adaptr("resize", lora, "-o", out, "--json").refused == (2, "UsageError")
    assert adaptr("resize", lora, "--rank", "0", "-o", out, "--json").refused == (2, "BadConfig")
    assert adaptr("resize", lora, "--rank", "500", "-o", out, "--json").refused == (2, "BadConfig")
    assert adaptr("resize", houlsby, "--rank", "2", "-o", out, "--json").refused == (5, "NoDelta")
    assert adaptr("resize", lora, "--rank", "2", "-o", lora, "--json").refused == (2, "OutputExists")
    assert not out.exists()


def test_convert_to_another_method(adaptr: Callable, lora: Path, houlsby: Path, tmp_path: Path) -> None:
    out = tmp_path / "full.safetensors"
    ran = adaptr("convert", lora, "--method", "full", "-o", out, "--json")
    assert (ran.code, ran.json["method"], ran.json["exact"]) == (0, "full", True)
    assert adaptr("convert", out, "--method", "lora", "-o", tmp_path / "x", "--json").refused == (5, "NotPossible")
    ran = adaptr("convert", out, "--method", "lora", "--rank", "8", "-o", tmp_path / "back", "--json")
    assert ran.json["exact"], "it was of rank 8"
    assert "the same change" in adaptr("convert", lora, "--method", "lora", "-o", tmp_path / "same").out
    assert adaptr("convert", lora, "--method", "dora", "-o", tmp_path / "x", "--json").refused == (5, "Unsupported")
    assert adaptr("convert", lora, "--method", "lorra", "-o", tmp_path / "x", "--json").refused == (2, "UnknownMethod")
    assert adaptr("convert", lora, "--rank", "2", "-o", tmp_path / "x", "--json").refused == (2, "UsageError")
    assert adaptr("convert", lora, "--energy", ".5", "-o", tmp_path / "x", "--json").refused == (2, "UsageError")
