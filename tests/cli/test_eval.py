from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptr import api
from adaptr.cli import eval_page
from browser import browse, needs_browser


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [{"question": f"w{i} ", "completion": f"w{i + 1} w{i + 2}"} for i in range(12)]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_a_table_for_people_and_an_object_for_programs(
    adaptr: Callable, llama: Path, loras: list[Path], data: Path
) -> None:
    line = ("eval", llama, loras[0], f"{loras[1]}=0.5", "--data", data, "--map", "prompt=question")
    ran = adaptr(*line, "--resamples", "50")
    assert ran.code == 0
    assert [row.split()[0] for row in ran.out.splitlines()[1:5]] == ["base", "style", "tone", "together"]
    assert "above the base" in ran.out
    assert "12 records, LlamaForCausalLM in float32" in ran.out
    found = adaptr(*line, "--resamples", "50", "--json").json
    assert [row["name"] for row in found["rows"]] == ["base", "style", "tone", "together"]
    assert set(found["rows"][1]["gain"]["loss"]) == {"value", "low", "high"}
    assert found["data"].startswith("sha256:")


def test_what_was_cut_is_said(adaptr: Callable, llama: Path, tmp_path: Path) -> None:
    (tmp_path / "long.jsonl").write_text(json.dumps({"prompt": "w1 ", "completion": "w2 " * 9}))
    ran = adaptr("eval", llama, "--data", tmp_path / "long.jsonl", "--length", 4)
    assert "1 records were longer than 4 tokens" in ran.out


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        (("--metric", "acuracy"), (2, "UsageError")),
        (("--task", "nonsense"), (2, "UsageError")),
        (("--map", "prompt"), (2, "UsageError")),
        (("--map", "prompt=nothing"), (3, "BadRecord")),
        (("--length", "1"), (2, "UsageError")),
        (("--second", "nothing.txt"), (3, "InputError")),
        (("--limit", "3"), (2, "UsageError")),
        (("--task", "lm-eval:x", "--metric", "f1"), (2, "UsageError")),
    ],
)
def test_what_makes_no_sense_is_refused(
    adaptr: Callable, llama: Path, data: Path, more: tuple[str, ...], refused: tuple[int, str]
) -> None:
    assert adaptr("eval", llama, "--data", data, *more, "--json").refused == refused


def test_no_data_and_data_that_is_not_there_are_refused(adaptr: Callable, llama: Path) -> None:
    assert adaptr("eval", llama, "--json").refused == (2, "UsageError")
    assert adaptr("eval", llama, "--data", "nothing.jsonl", "--json").refused == (3, "InputError")


def test_the_page_is_whole_and_the_same_each_time(
    adaptr: Callable, llama: Path, loras: list[Path], data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("vl_convert", reason="no vl-convert to make the page with")
    line = ("eval", llama, *loras, "--data", data, "--map", "prompt=question", "--resamples", "20")
    for name in ("a.html", "b.html"):
        assert adaptr(*line, "--html", tmp_path / name).code == 0
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.html").read_text(encoding="utf-8")
    assert "{{" not in text.partition("</style>")[0]
    assert adaptr(*line, "--html", tmp_path / "a.html", "--json").refused == (2, "OutputExists")


@needs_browser
def test_the_page_draws_itself(llama: Path, loras: list[Path], data: Path, tmp_path: Path) -> None:
    pytest.importorskip("vl_convert", reason="no vl-convert to make the page with")
    report = api.evaluate(llama, loras, data, columns={"prompt": "question"}, resamples=50)
    file = tmp_path / "eval.html"
    file.write_text(eval_page.page(report), encoding="utf-8")
    dom = browse(file, tmp_path / "profile", "--dump-dom")
    assert dom.partition('<script type="application/json"')[0].count("<svg") == 2
    assert dom.count('class="tile"') == 4
    assert dom.count('aria-roledescription="bar"') == 4
    assert dom.count('aria-roledescription="point"') == 3
