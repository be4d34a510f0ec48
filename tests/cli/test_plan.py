"""`adaptr plan`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptr.cli import listing
from adaptr.cli.output import Output
from planning.configs import LLAMA_2_7B, SMALL


@pytest.fixture
def base(tmp_path: Path) -> str:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_2_7B))
    return str(tmp_path)


def test_side_by_side(adaptr: Callable, base: str) -> None:
    ran = adaptr("plan", base, "--method", "lora", "--method", "ia3", "--set", "r=16", "--targets", "attn.q")
    assert ran.code == 2  # ia3 has no r
    ran = adaptr("plan", base, "-m", "lora", "--set", "r=16", "--targets", "attn.q", "--targets", "attn.v")
    assert ran.code == 0
    assert "8,388,608" in ran.out
    assert "0.124 %" in ran.out
    assert "full fine-tuning" in ran.out


def test_json(adaptr: Callable, base: str) -> None:
    found = adaptr("plan", base, "-m", "lora", "--json").json
    assert found["parameters"] == 6_738_415_616
    assert [way["held"] for way in found["ways"]] == ["16-bit", "nf4", "16-bit"]
    assert found["ways"][0]["estimate"]["trained"] == 19_988_480


def test_advice_ends_with_a_command(adaptr: Callable, base: str) -> None:
    ran = adaptr("plan", base, "--memory", "12GB", "--no-latency", "--swappable", "--task", "classification",
                 "--examples", "500", "-m", "lora", "-m", "prefix")  # fmt: skip
    assert f"adaptr train {base} --method lora --task classify" in ran.out
    assert "can't be merged" in ran.out


def test_cards(adaptr: Callable, base: str) -> None:
    ran = adaptr("plan", base, "-m", "lora", "--cards")
    for name in ("RTX 3060", "H200", "MI300X", "Apple 128"):
        assert name in ran.out


@pytest.mark.parametrize(("said", "code", "word"), [
    (["-m", "loar"], 2, "lora"),
    (["--memory", "lots"], 2, "12GB"),
    (["--set", "r=4"], 2, "--method"),
    (["--task", "poetry"], 2, "classify"),
    (["-m", "lora", "--targets", "attn.qq"], 4, "attn.q"),
])  # fmt: skip
def test_errors_say_the_way_on(adaptr: Callable, base: str, said: list[str], code: int, word: str) -> None:
    ran = adaptr("plan", base, *said)
    assert ran.code == code
    assert word in ran.err


def test_a_configuration_without_sizes(adaptr: Callable, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in SMALL.items() if k != "hidden_size"}))
    ran = adaptr("plan", str(tmp_path), "-m", "lora")
    assert ran.code == 3
    assert "hidden_size" in ran.err


def test_each_line_of_advice_is_read_by_the_command_that_it_is_for(adaptr: Callable, base: str) -> None:
    said = adaptr("plan", base, "-m", "lora", "-m", "dora", "--set", "r=4", "--targets", "attn.q", "--targets",
                  "attn.v", "--memory", "8GB", "--task", "classification", "--optimizer", "adafactor",
                  "--json").json  # fmt: skip
    lines = [one["line"] for one in said["advice"] if one["fits"]]
    assert len(lines) == 2
    for line in lines:
        words = shlex.split(line)
        context = listing.load("train").make_context("train", words[2:], obj=Output())
        assert context.params["method"] in {"lora", "dora"}
