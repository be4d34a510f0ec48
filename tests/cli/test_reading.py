"""`--alpha` and its kin, for adapters whose files do not hold it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adaptr import api
from cli.conftest import Ran
from foreign.test_kohya import CLIP, lora, saved

Adaptr = Callable[..., Ran]


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(saved(tmp_path, lora(CLIP, alpha=None)))


def test_it_is_asked_for_by_name(adaptr: Adaptr, file: str) -> None:
    done = adaptr("inspect", file)
    assert done.code == 3
    assert "--alpha" in done.err


def test_inspect_is_told(adaptr: Adaptr, file: str) -> None:
    assert adaptr("inspect", file, "--alpha", "6", "--json").json["config"]["alpha"] == 6


def test_convert_is_told_and_keeps_it(adaptr: Adaptr, file: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out.adaptr.safetensors")
    assert adaptr("convert", file, "--scale", "2", "-o", out).code == 0
    assert adaptr("inspect", out, "--json").json["config"]["alpha"] == 4


def test_each_of_several_is_told(adaptr: Adaptr, tmp_path: Path) -> None:
    paths = []
    for name in "ab":
        (tmp_path / name).mkdir()
        paths.append(str(saved(tmp_path / name, lora(CLIP, alpha=None))))
    out = str(tmp_path / "both.adaptr.safetensors")
    made = adaptr("stack", f"{paths[0]}=0.5", paths[1], "--alpha", "6", "-o", out, "--json").json
    assert [one["weight"] for one in made["adapters"]] == [0.5, 1.0]
    assert [part.config["alpha"] for part in api.load(out).parts.values()] == [6, 6]


def test_what_no_format_asks_for_is_refused(adaptr: Adaptr, file: str) -> None:
    assert adaptr("inspect", file, "--enable-lora", "1,0", "--json").refused == (2, "UsageError")


@pytest.mark.parametrize("mask", ["1,2", "", "1,,0", "q,v"])
def test_a_mask_is_of_noughts_and_ones(adaptr: Adaptr, file: str, mask: str) -> None:
    done = adaptr("inspect", file, "--enable-lora", mask)
    assert done.code == 2
    assert "1,0,1" in done.err


def test_a_recipe_says_it_itself(adaptr: Adaptr, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("strategy: linear\ninputs: []\n")
    done = adaptr("compose", str(tmp_path / "recipe.yaml"), "--alpha", "2", "-o", str(tmp_path / "out"))
    assert done.code == 2
    assert "leave out `--alpha`" in done.err
