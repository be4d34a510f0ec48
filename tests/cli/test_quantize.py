from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adaptr import api

KEYS = {
    "source", "out", "method", "scheme", "wanted", "error", "of", "groups", "bytes_before", "bytes", "digest",
    "seconds",
}  # fmt: skip


def test_a_scheme(adaptr: Callable, lora: Path, tmp_path: Path) -> None:
    ran = adaptr("quantize", lora, "--scheme", "nf4", "-o", tmp_path / "small.safetensors")
    assert ran.code == 0
    assert "scheme   nf4" in ran.out
    assert "% of a target's change (relative, Frobenius)" in ran.out
    assert "before" in ran.out
    assert "nf4" in adaptr("inspect", tmp_path / "small.safetensors").out


def test_an_error(adaptr: Callable, lora: Path, tmp_path: Path) -> None:
    found = {}
    for said in ("5%", "0.05"):
        ran = adaptr("quantize", lora, "--error", said, "-o", tmp_path / said, "--json")
        assert (ran.code, set(ran.json), ran.json["wanted"]) == (0, KEYS, 0.05)
        assert 0 < ran.json["error"] <= 0.05
        assert ran.json["bytes"] < 0.6 * ran.json["bytes_before"]
        found[said] = ran.json["digest"]
    assert found["5%"] == found["0.05"]
    assert api.load(tmp_path / "5%").quantization["error"] == ran.json["error"]


def test_refusals(adaptr: Callable, lora: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    assert adaptr("quantize", lora, "-o", out, "--json").refused == (2, "UsageError")
    assert adaptr("quantize", lora, "--scheme", "int3", "-o", out, "--json").refused == (2, "UsageError")
    assert adaptr("quantize", lora, "--scheme", "nf4", "--error", "1%", "-o", out, "--json").refused[0] == 2
    assert adaptr("quantize", lora, "--error", "one", "-o", out, "--json").refused[0] == 2
    assert adaptr("quantize", lora, "--error", "120%", "-o", out, "--json").refused == (2, "BadConfig")
    assert adaptr("quantize", lora, "--error", "1e-9", "-o", out, "--json").refused == (5, "NotPossible")
    assert adaptr("quantize", lora, "--scheme", "int8", "-o", lora, "--json").refused == (2, "OutputExists")
    assert not out.exists()
