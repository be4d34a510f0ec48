"""The comparison of methods: cells run once, and tables that hold only what may stand side by side."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import compare
import compare_cell
import compare_pictures
import compare_tables
import pytest
import torch
from click.testing import CliRunner, Result
from compare_cell import Cell

import tiny
from training_data import tokenizer

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A tiny model, documents with summaries, and a second text."""
    folder = tmp_path_factory.mktemp("compare")
    torch.manual_seed(0)
    tiny.MAKERS["llama"]().save_pretrained(folder / "base")
    tokenizer().save_pretrained(folder / "base")
    rows = [{"document": f"w{i} w{i + 1}", "summary": f"w{i + 2} w{i + 3}"} for i in range(7)]
    (folder / "data.json").write_text("\n".join(map(json.dumps, rows)))
    (folder / "second.txt").write_text(" ".join(f"w{i}" for i in range(30)))
    return [str(folder / name) for name in ("base", "data.json", "second.txt")]


def run(places: list[str], out: Path, *more: str) -> Result:
    options = zip(("--base", "--data", "--second"), places, strict=True)
    return CliRunner().invoke(compare.main, [*(word for pair in options for word in pair), "--out", str(out), *more])


def line(name: str, seed: int, loss: float, perplexity: float | None, before: float | None = 3.0, **more: Any) -> str:
    found = {
        "cell": asdict(Cell(name, config={"r": 16}, seed=seed)),
        "loss": loss,
        "perplexity": perplexity,
        "parameters": 0,
    }
    found |= {"peak_mb": 1234, "watt_hours": None}
    trained = {"before": {"loss": before, "perplexity": 48.0}, "step_seconds": 1.5, "parameters": 4321}
    return json.dumps({**found, **({} if before is None else trained), **more}) + "\n"


LINES = "".join(
    [
        line("base", 0, 3.0, 40.0, None),
        line("base", 1, 5.0, 40.0, None),
        line("lora r=16", 0, 2.5, 42.0),
        line("lora r=16", 1, 4.9, 44.0, 5.0),
        line("ia3", 0, 2.75, 40.0),
    ]
)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    (tmp_path / "lines.jsonl").write_text(LINES)
    return tmp_path / "lines.jsonl"


# ---------------------------------------------------------------- cells


def test_what_a_seed_holds_out_is_not_learned_and_all_records_are_held_out_once(places: list[str]) -> None:
    parts = [compare_cell.split(Path(places[1]), Cell("", seed=seed)) for seed in range(3)]
    assert all(row not in learned for learned, held in parts for row in held)
    assert len({row["prompt"] for _, held in parts for row in held}) == sum(len(held) for _, held in parts) == 7


def test_examples_come_before_what_is_asked() -> None:
    asked = compare_cell.shown([{"prompt": "c?", "completion": " d"}], [{"prompt": "a?", "completion": " b"}])
    assert asked == [{"prompt": "a? b\n\nc?", "completion": " d"}]


def test_a_cell_says_what_training_gained_and_lost_by_which_adapter(places: list[str], tmp_path: Path) -> None:
    cell = Cell("lora", "lora", {"r": 2}, rate=1e-2, steps=3, length=40)
    found = compare_cell.measured(cell, *map(Path, places), tmp_path)
    bare = compare_cell.measured(replace(cell, method=""), *map(Path, places), tmp_path)
    assert found["before"] == pytest.approx({"loss": bare["loss"], "perplexity": bare["perplexity"]})
    assert found["loss"] != found["before"]["loss"]
    assert found["adapter"].startswith("sha256:")
    assert found["parameters"] > 0 < found["step_seconds"]


def test_records_that_are_too_long_are_refused(places: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="longer than 7 tokens"):
        compare_cell.measured(Cell("base", length=7), *map(Path, places), tmp_path)


@pytest.mark.parametrize(
    ("after", "hours"),
    [({"a": 4_600_000_000, "b": 1}, 1.0), ({"a": 999_999_999, "b": 1}, None), ({"a": 4_600_000_000}, None)],
    ids=["counted", "began anew", "gone"],
)
def test_energy_is_said_where_it_was_counted(after: dict[str, int], hours: float | None) -> None:
    assert compare_cell.watt_hours({"a": 1_000_000_000, "b": 1}, after) == hours
    assert compare_cell.watt_hours({}, {}) is None


# ---------------------------------------------------------------- the whole of them


def test_only_what_is_not_there_is_run(places: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    there = [json.dumps({"cell": asdict(cell)}) + "\n" for cell in compare.cells() if cell != Cell("base", seed=2)]
    out.write_text("".join(there))
    said = run(places, out)
    assert said.exit_code == 0, said.output
    *before, new = out.read_text().splitlines(keepends=True)
    assert before == there
    assert json.loads(new)["cell"] == asdict(Cell("base", seed=2))
    assert json.loads(new)["peak_mb"] > 0


def test_no_cell_is_begun_when_the_time_is_over(places: list[str], tmp_path: Path) -> None:
    assert "the time is over" in run(places, tmp_path / "out.jsonl", "--minutes", "0").output
    assert not (tmp_path / "out.jsonl").exists()


def test_cells_that_fail_are_told_and_not_kept(places: list[str], tmp_path: Path) -> None:
    said = run([places[0], places[2], places[2]], tmp_path / "out.jsonl", "--only", "base")
    assert said.exit_code == 1
    assert "base, seed 0:" in said.output
    assert "`source` is missing" in said.output
    assert not (tmp_path / "out.jsonl").exists()


def test_no_two_cells_are_one() -> None:
    every = [(cell.name, cell.seed) for cell in compare.cells()]
    assert len(set(every)) == len(every)
    assert {name for name, _ in every} == {
        *compare_tables.METHODS,
        *compare_tables.RANKS,
        *compare_tables.SCALES,
        *compare_tables.TARGETS,
    } - {compare_tables.BASE_QUANTIZED}


# ---------------------------------------------------------------- tables and pictures


def test_a_table_has_means_over_seeds_and_their_spread(lines: Path) -> None:
    lines.write_text(LINES + line("ia3", 1, 4.75, 40.0, 5.0))
    _, _, base, lora, ia3 = compare_tables.tables(lines)["compared-methods"].splitlines()
    assert base == "| base | 4.000 |  |  |  | 0 |  | 1,234 | 2 |"
    assert lora == "| lora r=16 | 3.700 | 0.300 ± 0.283 |  | +7.5 ± 3.5 | 4,321 | 1.5 | 1,234 | 2 |"
    assert ia3 == "| ia3 | 3.750 | 0.250 ± 0.000 | -0.050 ± 0.283 | +0.0 ± 0.0 | 4,321 | 1.5 | 1,234 | 2 |"


def test_a_table_is_of_the_seeds_that_all_its_rows_have(lines: Path) -> None:
    rows = compare_tables.tables(lines)["compared-methods"].splitlines()[2:]
    assert [row.split(" | ")[1] for row in rows] == ["3.000", "2.500", "2.750"]
    assert all(row.endswith(" | 1 |") for row in rows)


def test_the_quantised_base_is_told_apart_from_what_was_trained_on_it(lines: Path) -> None:
    lines.write_text(LINES + line("qlora r=16", 0, 2.75, 60.0, 3.25, cell=asdict(Cell("qlora r=16", base_quant="nf4"))))
    *_, bare, trained = compare_tables.tables(lines)["compared-methods"].splitlines()
    assert bare == "| base in nf4 | 3.250 | -0.250 | -0.750 | +20.0 | 0 |  |  | 1 |"
    assert trained == "| qlora r=16 | 2.750 | 0.250 | -0.250 | +50.0 | 4,321 | 1.5 | 1,234 | 1 |"


def test_energy_has_a_column_where_a_machine_told_it(lines: Path) -> None:
    assert " Wh " not in compare_tables.tables(lines)["compared-methods"]
    lines.write_text(LINES + line("full", 0, 2.5, 42.0, watt_hours=0.125))
    head, _, _, full, *_ = compare_tables.tables(lines)["compared-methods"].splitlines()
    assert head.endswith("| peak MB | Wh | seeds |")
    assert full.endswith("| 1,234 | 0.12 | 1 |")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (line("dora r=16", 0, 2.5, 42.0, 3.1), "`dora r=16`, seed 0, was measured on another base"),
        (line("dora r=16", 0, 2.5, 42.0, cell=asdict(Cell("dora r=16", steps=9))), "different steps"),
    ],
    ids=["another base", "other settings"],
)
def test_what_can_not_stand_side_by_side_is_refused(lines: Path, more: str, said: str) -> None:
    lines.write_text(LINES + more)
    with pytest.raises(ValueError, match=said):
        compare_tables.tables(lines)


def test_pictures_show_every_seed_of_what_is_there(lines: Path) -> None:
    gain, lost = compare_pictures.pictures(compare_tables.read(lines))["choosing-gain.svg"]["hconcat"]
    assert [(one["way"], round(one["value"], 3)) for one in gain["data"]["values"]] == [
        ("lora r=16", 0.5),
        ("lora r=16", 0.1),
        ("ia3", 0.25),
    ]
    assert [round(one["value"], 3) for one in lost["data"]["values"]] == [5.0, 10.0, 0.0]


def test_both_panels_have_a_line_for_each_way_whatever_is_known_of_it(lines: Path) -> None:
    lines.write_text(LINES + line("in context", 0, 3.5, None, None))
    panels = compare_pictures.pictures(compare_tables.read(lines))["choosing-gain.svg"]["hconcat"]
    ways = [panel["layer"][1]["encoding"]["y"]["scale"]["domain"] for panel in panels]
    assert ways == [["in context", "lora r=16", "ia3"]] * 2


@pytest.mark.parametrize("name", ["choosing-gain.svg", "choosing-ranks.svg"])
def test_the_documents_pictures_are_of_the_lines_that_are_there(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8").endswith(compare_pictures.stamp()), (
        "draw them: compare_pictures.py"
    )
