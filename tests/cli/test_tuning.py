from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adaptr import api
from adaptr.cli import tune_page
from browser import browse, needs_browser

pytest.importorskip("optuna", reason="no optuna to search with")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "texts.txt"
    file.write_text("\n\n".join(f"w{i} w{i + 1} w{i + 2} w{i + 3}" for i in range(12)))
    return file


def test_a_search_is_told_and_its_result_written(
    adaptr: Callable, llama: Path, loras: list[Path], data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mixed.safetensors"
    line = ("compose", *loras, "--tune", "--data", data, "--base", llama, "--trials", 6)
    ran = adaptr(*line, "-o", out)
    assert ran.code == 0
    assert "The best trials" in ran.out
    assert "6, strengths on a live model" in ran.out
    assert "held out" in ran.out
    found = adaptr(*line, "-o", out, "--force", "--json").json
    assert len(found["trials"]) == 6
    assert {row["name"] for row in found["models"]} == {"base", "equal", "style alone", "tone alone", "result"}
    assert api.load(out).lineage["search"]["best"] == found["best"] + 1


def test_fields_of_the_strategy_are_set_and_searched(
    adaptr: Callable, llama: Path, loras: list[Path], data: Path, tmp_path: Path
) -> None:
    line = ("compose", *loras, "--tune", "--data", data, "--base", llama, "--trials", 5, "-o", tmp_path / "m")
    ran = adaptr(*line, "--strategy", "ties", "--set", "lam=0.9", "--over", "density=0.1..0.5", "--json")
    assert all(0.1 <= one["values"].get("density", 0.2) <= 0.5 for one in ran.json["trials"])


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        (("--trials", "0"), (2, "UsageError")),
        (("--trials", "2"), (2, "UsageError")),
        (("--over", "densty"), (2, "UsageError")),
        (("--hold-out", "1"), (2, "UsageError")),
        (("--task", "nonsense"), (2, "UsageError")),
        (("--strategy", "ties", "--over", "density=0.5..3"), (2, "BadConfig")),
    ],
)
def test_what_makes_no_sense_is_refused(
    adaptr: Callable, llama: Path, loras: list[Path], data: Path, tmp_path: Path, more: tuple, refused: tuple[int, str]
) -> None:
    line = ("compose", *loras, "--tune", "--data", data, "--base", llama, "-o", tmp_path / "m", "--json")
    assert adaptr(*line, *more).refused == refused
    assert list(tmp_path.iterdir()) == []


def test_options_of_a_search_without_one_and_a_search_without_data_are_refused(
    adaptr: Callable, llama: Path, loras: list[Path], data: Path, tmp_path: Path
) -> None:
    line = ("compose", *loras, "-o", tmp_path / "m", "--json")
    for more in (("--data", data), ("--trials", 9), ("--map", "text=x"), ("--html", tmp_path / "p.html")):
        assert adaptr(*line, *more).refused == (2, "UsageError")
    assert list(tmp_path.iterdir()) == []
    assert adaptr(*line, "--tune", "--base", llama).refused == (2, "UsageError")
    assert adaptr(*line, "--tune", "--data", data).refused == (2, "UsageError")


@needs_browser
def test_the_page_draws_itself(llama: Path, loras: list[Path], data: Path, tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="no vl-convert to make the page with")
    report = api.tune(loras, data, base=llama, trials=8).report
    assert tune_page.page(report) == tune_page.page(report)
    file = tmp_path / "tune.html"
    file.write_text(tune_page.page(report), encoding="utf-8")
    dom = browse(file, tmp_path / "profile", "--dump-dom")
    assert dom.partition('<script type="application/json"')[0].count("<svg") == 3
    assert dom.count('class="tile"') == 5
    assert "<option>style</option>" in dom
