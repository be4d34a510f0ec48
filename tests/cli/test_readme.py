"""The README's first ten minutes, command after command, on a model so small that they take seconds."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: What makes the environment and the model, which are there.
GIVEN = (". .venv/bin/activate", "ln -s .cache/smollm2-135m-instruct base")


def test_a_newcomers_commands_run_as_pasted(
    adaptr: Callable, llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "examples", "examples", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    Path("base").symlink_to(llama)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- first -->(.*?)<!-- /first -->", text, re.DOTALL)
    assert block
    commands = re.findall(r"^\$ (.*)$", block[1], re.MULTILINE)
    assert tuple(commands[:2]) == GIVEN
    for command in commands[2:]:
        name, *arguments = shlex.split(command)
        if name == "adaptr":
            ran = adaptr(*arguments)
            assert ran.code == 0, (command, ran.err)
        else:
            assert subprocess.run(command, shell=True, capture_output=True).returncode == 0, command
    assert {"pirate.safetensors", "speller.safetensors", "both.safetensors", "one-model"} <= {
        *map(str, Path().iterdir())
    }
