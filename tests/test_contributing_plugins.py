"""The strategy, format, command and remote that CONTRIBUTING shows are complete: each is loaded as it is, and works."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import adaptr
import tiny
from adaptr import errors as e
from adaptr import foreign, strategies
from adaptr.registry import remotes
from adaptr.testing import shaken
from foreign.test_formats import Point

TEXT = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text("utf-8")


def code(sort: str) -> str:
    found = re.search(rf"## A {sort} in one file.*?```python\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def module(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    sort, name, attribute = request.param
    file = tmp_path / f"{name}_of_contributing.py"
    file.write_text(code(sort))
    spec = util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    made = util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, file.stem, made)
    spec.loader.exec_module(made)
    points = {name: Point(getattr(made, attribute))}
    monkeypatch.setattr("adaptr.discovery._points", lambda group: points)
    return made


@pytest.mark.parametrize("module", [("strategy", "halved", "Halved")], indirect=True)
def test_the_strategy_composes(module: Any, tmp_path: Path) -> None:
    one = adaptr.create(tiny.model("llama"), "lora", ["attn.q"], r=2)
    for seed, name in enumerate(("a", "b"), 1):
        adaptr.save(shaken(one, seed), tmp_path / f"{name}.safetensors")
    strategies.get.cache_clear()
    found = adaptr.compose([tmp_path / "a.safetensors", tmp_path / "b.safetensors"], strategy="halved")
    assert found is not None
    strategies.get.cache_clear()


@pytest.mark.parametrize("module", [("format", "plain", "Plain")], indirect=True)
def test_the_format_is_found_written_and_read(module: Any, tmp_path: Path) -> None:
    foreign.get.cache_clear()
    target = adaptr.Target("m", "norm", (2,))
    made = adaptr.Adapter("bitfit", {}, {"m": target}, {})
    foreign.get("plain").write(made, tmp_path / "x")
    assert foreign.of(tmp_path / "x").name == "plain"
    assert foreign.get("plain").read(tmp_path / "x").method == "bitfit"
    with pytest.raises(e.OutputExists):
        foreign.get("plain").write(made, tmp_path / "x")
    assert "plain" in foreign.choices()
    foreign.get.cache_clear()


@pytest.mark.parametrize("module", [("remote", "shelf", "Shelf")], indirect=True)
def test_the_remote_does_what_it_has_and_refuses_the_rest(module: Any) -> None:
    shelf = remotes.of("shelf")
    assert [found.reference for found in shelf.search(None, ["st"])] == ["shelf://style"]  # type: ignore[arg-type]
    with pytest.raises(e.Unsupported, match=r"nothing can be resolved at `shelf://`"):
        shelf.resolve(None)  # type: ignore[arg-type]


def test_the_command_is_listed_and_runs(tmp_path: Path) -> None:
    (tmp_path / "keys_command.py").write_text(code("command"))
    (tmp_path / "keys-1.0.dist-info").mkdir()
    (tmp_path / "keys-1.0.dist-info" / "entry_points.txt").write_text("[adaptr.commands]\nkeys = keys_command\n")
    adaptr.save(adaptr.create(tiny.model("llama"), "lora", ["attn.q"], r=2), tmp_path / "a.safetensors")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    run = [sys.executable, "-m", "adaptr", "keys", str(tmp_path / "a.safetensors"), "--json"]
    ran = subprocess.run(run, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert ran.returncode == 0, ran.stderr
    assert all(key.endswith((":A", ":B")) for key in json.loads(ran.stdout)["keys"])
