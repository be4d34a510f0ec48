from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adaptr import api
from adaptr.format import digest

ASK = ("--prompt", "w1 w2 w3", "--max-new-tokens", "5", "--json")


@pytest.fixture
def mixture(adaptr: Callable, lora: Path, houlsby: Path, tmp_path: Path) -> Path:
    out = tmp_path / "mixture.safetensors"
    ran = adaptr("stack", f"{lora}=0.5", houlsby, "-o", out, "--json")
    assert ran.code == 0
    assert [(a["method"], a["weight"]) for a in ran.json["adapters"]] == [("lora", 0.5), ("houlsby", 1.0)]
    assert ran.json["adapters"][0]["digest"] == digest.of_adapter(api.load(lora))
    return out


def test_a_stack_says_what_its_adapters_say_together(
    adaptr: Callable, llama: Path, lora: Path, houlsby: Path, mixture: Path
) -> None:
    one = adaptr("apply", llama, mixture, *ASK).json["answers"]
    assert one == adaptr("apply", llama, f"{lora}=0.5", houlsby, *ASK).json["answers"]
    assert one != adaptr("apply", llama, *ASK).json["answers"]


def test_text_names_the_adapters(adaptr: Callable, lora: Path, tmp_path: Path) -> None:
    ran = adaptr("stack", lora, "-o", tmp_path / "a.safetensors")
    assert "lora" in ran.out
    assert adaptr("stack", lora, "-o", tmp_path / "a.safetensors", "--json").refused == (2, "OutputExists")


def test_twice_the_same_is_refused_and_nothing_left(adaptr: Callable, lora: Path, tmp_path: Path) -> None:
    assert adaptr("stack", lora, lora, "-o", tmp_path / "a.safetensors", "--json").refused == (2, "UsageError")
    assert not list(tmp_path.iterdir())
