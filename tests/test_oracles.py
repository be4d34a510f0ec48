"""The frame of `make oracles`: tools have environments of their own, and what they say is kept and held to limits."""

from __future__ import annotations

import json
import runpy
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
oracles = runpy.run_path(str(ROOT / "oracles" / "run.py"))
cases = runpy.run_path(str(ROOT / "oracles" / "common" / "cases.py"))
CHECK = 'import json, sys\nprint("noise")\nprint(open(sys.argv[1] + "/cases.json").read())\n'


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Environments, which are the same for all tools here that require nothing."""
    return tmp_path_factory.mktemp("environments")


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


def test_what_is_within_its_limit_passes_and_is_kept(tool: Path, cache: Path, tmp_path: Path) -> None:
    says(tool, one=1e-6)
    assert oracles["main"](["echo"], tool.parent, cache) == 0
    kept = json.loads((tool / "result.json").read_text())
    assert kept["cases"] == {"one": {"error": 1e-6, "limit": 1e-5}}
    assert kept["tool"] == "echo"
    assert kept["versions"]["peft"]
    assert not [one for one in (tmp_path, cache) if str(one) in json.dumps(kept)]


def test_what_is_above_or_no_number_fails(tool: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    says(tool, one=1e-6, two=1e-3, three=float("nan"))
    assert oracles["main"]([], tool.parent, cache) == 1
    assert capsys.readouterr().out.count("ABOVE") == 2


def test_an_environment_is_made_once_for_what_is_required(tool: Path, cache: Path) -> None:
    (one,) = oracles["tools"](tool.parent)
    first = oracles["environment"](one, cache)
    made = first.lstat().st_mtime_ns
    assert oracles["environment"](one, cache) == first
    assert first.lstat().st_mtime_ns == made


def test_an_environment_may_be_beside_adaptrs_own(tool: Path, tmp_path: Path) -> None:
    (tool / "requirements.txt").write_bytes(oracles["BESIDE"] + b", with nothing more\n")
    (found,) = oracles["tools"](tool.parent)
    subprocess.run([oracles["environment"](found, tmp_path), "-c", "import torch, transformers"], check=True)


def test_an_unknown_tool_is_named(tool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert oracles["main"](["other"], tool.parent, tmp_path) == 2
    assert "`other`" in capsys.readouterr().err


def test_what_a_tool_writes_itself_comes_first(tool: Path, cache: Path) -> None:
    (tool / "theirs.py").write_text("import sys\nopen(sys.argv[1] + '/own', 'w').write('0.25')\n")
    (tool / "make.py").write_text(
        "import sys\nfrom pathlib import Path\nimport cases\nfolder = Path(sys.argv[1])\n"
        "cases.write(folder, [{'name': 'one', 'error': float((folder / 'own').read_text())}], limit=0.5)\n"
    )
    (tool / "check.py").write_text(
        "import json, sys\nfrom pathlib import Path\nimport cases\n"
        "print(json.dumps({case.pop('name'): case for case in cases.read(Path(sys.argv[1]))}))\n"
    )
    assert oracles["main"](["echo"], tool.parent, cache) == 0
    assert json.loads((tool / "result.json").read_text())["cases"] == {"one": {"error": 0.25, "limit": 0.5}}


def test_versions_of_a_tool_are_told_which_they_are(tool: Path, cache: Path) -> None:
    (tool / "requirements.txt").unlink()
    for version in ("0.5", "0.10"):
        (tool / f"requirements-{version}.txt").write_text("# nothing\n")
    (tool / "make.py").write_text("")
    (tool / "check.py").write_text(
        "import json, sys\nprint(json.dumps({sys.argv[2]: {'error': float(sys.argv[2]), 'limit': 1}}))"
    )
    assert [one.name for one in oracles["tools"](tool.parent)] == ["echo-0.10", "echo-0.5"]
    assert oracles["main"](["echo-0.5"], tool.parent, cache) == 0
    assert not (tool / "result-0.10.json").exists()
    assert oracles["main"](["echo"], tool.parent, cache) == 0
    for version in ("0.5", "0.10"):
        kept = json.loads((tool / f"result-{version}.json").read_text())
        assert (kept["tool"], list(kept["cases"])) == ("echo", [version])


def test_a_case_is_held_to_what_should_come_out_and_against_its_base(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [{"name": "bare", "adapter": "", "outputs": [1, 2]}, {"name": "own", "adapter": "a", "outputs": [1, 5]}]
    cases["write"](tmp_path, made, base="b", limit=1e-4)
    cases["held"](tmp_path, lambda case: np.array([1, 4.5] if case["adapter"] else [1, 2]), np.array)
    assert json.loads(capsys.readouterr().out) == {
        "bare": {"error": 0, "limit": 1e-4},
        "own": {"error": 0.5, "limit": 1e-4, "effect": 2.5},
    }


def test_a_case_may_be_held_to_what_came_out_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = [{"name": "one", "outputs": [1], "at": 1}, {"name": "two", "like": "one", "at": 3}]
    cases["write"](tmp_path, made, base="b", adapter="", limit=1e-4)
    cases["held"](tmp_path, lambda case: np.array([case["at"]]), np.array)
    assert json.loads(capsys.readouterr().out)["two"] == {"error": 2, "limit": 1e-4}


@pytest.mark.parametrize("tool", oracles["tools"](), ids=lambda tool: str(tool.name))
def test_the_results_that_are_kept_are_within_their_limits(tool: Any) -> None:
    kept = json.loads(tool.result.read_text())
    assert kept["cases"]
    assert oracles["above"](kept["cases"]) == []
    effects = {case: said["effect"] for case, said in kept["cases"].items() if "effect" in said}
    assert effects or tool.name == "hosts"  # whose errors are relative to what the adapter does
    assert all(effect > 100 * kept["cases"][case]["limit"] for case, effect in effects.items())


def test_on_hosts_every_method_is_right_or_refused_with_its_reason() -> None:
    """An adapter that does nothing has an error of 1 there."""
    kept = json.loads((ROOT / "oracles/hosts/result.json").read_text())["cases"]
    tried = {said["right"] + sum(map(len, said["refused"].values())) for said in kept.values()}
    assert len(tried) == 1
    assert not any("crashed" in said for said in kept.values())
    assert max(said["limit"] for said in kept.values()) <= 0.25
    assert all(why.partition(": ")[2] for said in kept.values() for why in said["refused"])
