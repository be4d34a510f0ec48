"""What costs time to import is imported where it is used: checked in fresh processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import adaptr
import tiny
from adaptr import plugins

DENIED = ("torch", "numpy", "transformers", "safetensors", "httpx", "rich", "pydantic", "peft", "huggingface_hub")
BARE = "import json, sys; before = set(sys.modules)\n"
REPORT = "\nprint(json.dumps(sorted(set(sys.modules) - before)))"


def imported(code: str, *arguments: str) -> list[str]:
    """The modules that `code` brings into a fresh process."""
    command = [sys.executable, "-c", BARE + code + REPORT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


def check(modules: list[str], budget: int) -> None:
    heavy = sorted({m.partition(".")[0] for m in modules} & set(DENIED))
    assert heavy == []
    assert len(modules) <= budget, f"{len(modules)} modules, the budget is {budget}"


def test_the_package_alone_is_nothing() -> None:
    check(imported("import adaptr; adaptr.__version__"), 12)


@pytest.mark.parametrize("name", plugins.builtin_files())
def test_a_method_brings_its_family_and_no_torch(name: str) -> None:
    check(imported("from adaptr import plugins; plugins.method(sys.argv[1]).config({})", name), 140)


def test_only_the_method_asked_for_is_imported() -> None:
    modules = imported("from adaptr import plugins; plugins.method('lora')")
    methods = [m for m in modules if m.startswith("adaptr_plugins.") and m.count(".") == 2]
    assert methods == ["adaptr_plugins.delta.lora"]
    assert "importlib.metadata" not in modules, "a built-in must not cost a scan of what is installed"


def test_reading_a_file_needs_neither_torch_nor_numpy(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    adaptr.save(adaptr.create(tiny.model("llama"), "lora"), file)
    code = "from adaptr.format import read; a = read(sys.argv[1]); assert len(a.targets) == 14"
    modules = imported(code, str(file))
    check(modules, 220)


def test_reading_a_file_of_a_built_in_method_scans_no_entry_points(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    adaptr.save(adaptr.create(tiny.model("llama"), "lora"), file)
    code = (
        "from adaptr import plugins; from adaptr.format import read; read(sys.argv[1]); "
        "assert plugins._entry_points.cache_info().currsize == 0"
    )
    imported(code, str(file))
