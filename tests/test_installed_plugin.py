"""A method of another distribution, built and installed: listed, used, and held to its laws."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import adaptr
import tiny
from adaptr import errors, plugins

EXAMPLE = Path(__file__).parent / "example_plugin"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example plugin built and installed as any distribution, in a folder of its own."""
    source = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "plugin")
    folder = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "No module named" in done.stderr:  # pip or hatchling: laid out by hand
        _lay_out(source, folder)
    else:
        assert done.returncode == 0, done.stderr
    return folder


def _lay_out(source: Path, folder: Path) -> None:
    """What an installer makes of the plugin: its package, its name and its entry points."""
    project = tomllib.loads((source / "pyproject.toml").read_text("utf-8"))["project"]
    shutil.copytree(source / "adaptr_gain", folder / "adaptr_gain")
    info = folder / f"adaptr_gain-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    points = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in found.items()) for group, found in groups]
    (info / "entry_points.txt").write_text("\n".join(points))


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment)


def test_an_installed_method_is_listed_beside_the_built_ins(installed: Path) -> None:
    code = "from adaptr import plugins; print(plugins.names()); print(plugins.method('gain').params)"
    done = run(installed, "-c", code)
    assert done.returncode == 0, done.stderr
    assert "'gain'" in done.stdout
    assert "'lora'" in done.stdout
    listed = run(installed, "-m", "adaptr", "methods", "--json")
    assert "gain" in json.dumps(json.loads(listed.stdout))
    assert "gain" not in plugins.names()


def test_an_installed_method_creates_attaches_saves_and_loads(installed: Path, tmp_path: Path) -> None:
    code = """
import sys, torch, adaptr
from adaptr.format import read
from adaptr.testing import tiny_llama, shaken, logits
model, ids = tiny_llama(), torch.arange(7)[None] + 3
adapter = shaken(adaptr.create(model, "gain"))
with torch.no_grad():
    base = logits(model(ids))
    with adaptr.attach(model, adapter):
        one = logits(model(ids))
    adaptr.save(adapter, sys.argv[1])
    with adaptr.attach(model, read(sys.argv[1])):
        assert torch.equal(logits(model(ids)), one)
    assert torch.equal(logits(model(ids)), base) and not torch.equal(one, base)
"""
    file = tmp_path / "gain.safetensors"
    done = run(installed, "-c", code, str(file))
    assert done.returncode == 0, done.stderr
    from adaptr.format import read

    found = read(file)  # here, where the plugin is not installed
    assert found.method == "gain"
    with pytest.raises(errors.UnknownMethod, match="no method `gain`"):
        adaptr.attach(tiny.model("llama"), found)


def test_what_is_installed_keeps_its_laws(installed: Path) -> None:
    """All files in one process, which imports torch and transformers once."""
    folder = EXAMPLE / "tests"
    options = ["-v", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(folder)]
    done = run(installed, "-m", "pytest", str(folder), *options)
    assert done.returncode == 0, done.stdout
    held = set(re.findall(r"(test_\w+\.py)::.* PASSED", done.stdout))
    assert held == {file.name for file in folder.glob("test_*.py")}
