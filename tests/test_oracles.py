"""The frame of `make oracles`: tools have environments of their own, and what they say is kept and held to limits."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
oracles = runpy.run_path(str(ROOT / "oracles" / "run.py"))
CHECK = 'import json, sys\nprint("noise")\nprint(open(sys.argv[1] + "/cases.json").read())\n'


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """A tool that requires nothing, and says what `make.py` has it say."""
    folder = tmp_path / "tools" / "echo"
    folder.mkdir(parents=True)
    (folder / "requirements.txt").write_text("# nothing\n")
    (folder / "check.py").write_text(CHECK)
    return folder


def says(tool: Path, **cases: float) -> None:
    said = {name: {"error": error, "limit": 1e-5} for name, error in cases.items()}
    text = json.dumps(json.dumps(said))
    (tool / "make.py").write_text(f"import sys\nopen(sys.argv[1] + '/cases.json', 'w').write({text})\n")


def test_what_is_within_its_limit_passes_and_is_kept(tool: Path, tmp_path: Path) -> None:
    says(tool, one=1e-6)
    assert oracles["main"](["echo"], tool.parent, tmp_path / "cache") == 0
    kept = json.loads((tool / "result.json").read_text())
    assert kept["cases"] == {"one": {"error": 1e-6, "limit": 1e-5}}
    assert kept["tool"] == "echo"
    assert kept["versions"]["peft"]
    assert str(tmp_path) not in json.dumps(kept)


def test_what_is_above_or_no_number_fails(tool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    says(tool, one=1e-6, two=1e-3, three=float("nan"))
    assert oracles["main"]([], tool.parent, tmp_path / "cache") == 1
    assert capsys.readouterr().out.count("ABOVE") == 2


def test_an_environment_is_made_once_for_what_is_required(tool: Path, tmp_path: Path) -> None:
    first = oracles["environment"](tool, tmp_path)
    made = first.lstat().st_mtime_ns
    assert oracles["environment"](tool, tmp_path) == first
    assert first.lstat().st_mtime_ns == made


def test_an_unknown_tool_is_named(tool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert oracles["main"](["other"], tool.parent, tmp_path) == 2
    assert "`other`" in capsys.readouterr().err


@pytest.mark.parametrize("name", oracles["tools"]())
def test_the_results_that_are_kept_are_within_their_limits(name: str) -> None:
    kept = json.loads((ROOT / "oracles" / name / "result.json").read_text())
    assert kept["cases"]
    assert oracles["above"](kept["cases"]) == []
