"""compose as a command; what it computes is held by tests/composing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import adaptr as library
from composing.inputs import lora

KEYS = {
    "strategy", "config", "inputs", "method", "targets", "alone", "ranks", "error", "distance", "errors", "replaced",
    "lost", "seconds", "out", "bytes", "digest",
}  # fmt: skip


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for seed, path in enumerate(paths, 1):
        library.save(lora(seed), path)
    return paths


def test_a_composition(adaptr: Callable, pair: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = pair
    out = tmp_path / "out.safetensors"
    ran = adaptr(
        "compose", f"{a}=0.7", f"{b}=0.3", "--strategy", "ties", "--density", 0.3, "--rank", 4, "-o", out, "--json"
    )
    assert (ran.code, set(ran.json)) == (0, KEYS)
    assert ran.json["config"] == {"density": 0.3, "lam": 1.0}
    assert (ran.json["method"], ran.json["ranks"], ran.json["targets"]) == ("lora", [4, 4], 14)
    assert 0 < ran.json["error"] < 1
    want = library.compose([(a, 0.7), (b, 0.3)], "ties", density=0.3, rank=4, out=tmp_path / "want")
    assert out.read_bytes() == (tmp_path / "want").read_bytes()
    assert want.report.digest == ran.json["digest"]


def test_the_text_says_what_it_cost(adaptr: Callable, pair: tuple[Path, Path], tmp_path: Path) -> None:
    said = adaptr(
        "compose", f"{pair[0]}=0.7", f"{pair[1]}=-1", "--strategy", "svd", "--energy", 0.8, "-o", tmp_path / "x"
    )
    assert said.code == 0
    for word in ("weight 0.7", "weight -1", "of rank", "% against the strategy's exact result", "sha256:"):
        assert word in said.out
    exact = adaptr("compose", *pair, "-o", tmp_path / "y")
    assert "error     none" in exact.out


def test_recipes(adaptr: Callable, pair: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "strategy: dare\nconfig: {density: 0.5}\ninputs:\n- adapter: a.safetensors\n- adapter: b.safetensors\n"
    )
    for name in ("x", "y"):
        assert adaptr("compose", recipe, "-o", tmp_path / name, "-q").code == 0
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    beside = adaptr("compose", recipe, "-o", tmp_path / "z", "--seed", 3, "--json")
    assert beside.refused == (2, "UsageError")
    assert "leave out `--seed`" in beside.json["error"]["message"]
    recipe.write_text("strategy: dear\ninputs:\n- adapter: a.safetensors\n")
    assert adaptr("compose", recipe, "-o", tmp_path / "z", "--json").refused == (3, "RecipeError")


def test_what_is_refused(adaptr: Callable, pair: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = pair
    out = tmp_path / "out"
    for arguments, want in (
        ((a, b, "--strategy", "tise"), (2, "UsageError")),
        ((a, b, "--set", "density"), (2, "UsageError")),
        ((a, b, "--density", 0.5), (2, "BadConfig")),
        ((a, b, "--strategy", "ties", "--set", "lam=big"), (2, "BadConfig")),
        ((a, b, "--rank", 0), (2, "UsageError")),
        ((a, a), (2, "UsageError")),
        ((f"{a}=0", f"{b}=0"), (2, "UsageError")),
        ((a, tmp_path / "none"), (3, "InputError")),
    ):
        assert adaptr("compose", *arguments, "-o", out, "--json").refused == want
        assert not out.exists()
    assert adaptr("compose", a, b, "-o", a, "--json").refused == (2, "OutputExists")
    assert adaptr("compose", a, b, "--strategy", "ties", "--set", "lam=0.5", "-o", out).code == 0
