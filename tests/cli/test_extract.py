from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adaptr import api

KEYS = {
    "base", "tuned", "out", "targets", "error", "worst", "ranks", "biases", "replaced", "dropped", "unchanged",
    "numbers", "digest", "reading", "svd", "seconds", "notes",
}  # fmt: skip


@pytest.fixture(scope="module")
def tuned(llama: Path, lora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tuned") / "tuned"
    api.merge(llama, [lora], path, receipt=False)
    return path


def test_what_was_merged_comes_out_again(
    adaptr: Callable, llama: Path, lora: Path, tuned: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x.safetensors"
    ran = adaptr("extract", llama, tuned, "--rank", "8", "-o", out, "--json")
    assert (ran.code, set(ran.json)) == (0, KEYS)
    assert ran.json["error"] < 1e-5
    assert set(api.load(out).targets) == set(api.load(lora).targets)
    assert adaptr("diff", out, lora, "--json").json["same_change"]


def test_text_says_error_and_time(adaptr: Callable, llama: Path, tuned: Path, tmp_path: Path) -> None:
    ran = adaptr("extract", llama, tuned, "--energy", "0.5", "-o", tmp_path / "x.safetensors")
    assert ran.code == 0
    assert "% of the change" in ran.out
    assert "s of SVD" in ran.out
    assert adaptr("extract", llama, tuned, "--rank", "1", "-o", tmp_path / "y", "-q").out == ""


def test_refusals(adaptr: Callable, llama: Path, bert: Path, tuned: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    assert adaptr("extract", llama, tuned, "-o", out, "--json").refused == (2, "UsageError")
    assert adaptr("extract", llama, tuned, "--rank", "0", "-o", out, "--json").refused == (2, "BadConfig")
    assert adaptr("extract", llama, bert, "--rank", "2", "-o", out, "--json").refused == (4, "WrongBase")
    assert adaptr("extract", llama, llama, "--rank", "2", "-o", out, "--json").refused == (5, "NothingChanged")
    assert adaptr("extract", llama, tmp_path / "no", "--rank", "2", "-o", out, "--json").refused == (3, "InputError")
    assert not out.exists()
