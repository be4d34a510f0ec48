"""The start-up budget: what a command may import. How long it takes is measured in `benchmarks/startup.py`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import adaptr
from adaptr.adapter import Adapter, Target

#: Each costs more than a few milliseconds; commands that read no weights need none of them.
DENIED = {
    "torch", "numpy", "transformers", "safetensors", "httpx", "rich", "peft", "huggingface_hub", "bitsandbytes",
    "accelerate", "jsonschema", "importlib.metadata",
}  # fmt: skip
HELP_MODULES = 190

DRIVER = """
import json, sys
before = set(sys.modules)
import contextlib, io
from adaptr.__main__ import main
with contextlib.redirect_stdout(io.StringIO()):
    code = main(sys.argv[1:])
print(json.dumps({"code": code, "modules": sorted(set(sys.modules) - before)}))
"""


def imported(*arguments: str) -> set[str]:
    """The modules that a command line imports in a fresh interpreter."""
    ran = subprocess.run([sys.executable, "-c", DRIVER, *arguments], capture_output=True, text=True, check=True)
    found = json.loads(ran.stdout)
    assert found["code"] == 0, ran.stderr
    return set(found["modules"])


@pytest.fixture
def adapter_file(tmp_path: Path) -> Path:
    import torch

    target = Target("layer", "linear", (6, 4), {"r": 2, "alpha": 4.0, "dropout": 0.0, "rslora": False, "bias": False})
    tensors = {"layer:A": torch.ones(2, 4), "layer:B": torch.ones(6, 2)}
    path = tmp_path / "a.safetensors"
    adaptr.save(Adapter("lora", target.config, {"layer": target}, tensors), path)
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--help",),
        ("--version",),
        *((name, "--help") for name in ("inspect", "convert", "merge", "verify", "apply", "diff", "extract", "resize")),
    ],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    modules = imported(*arguments)
    assert not modules & DENIED
    ours = {module for module in modules if not module.startswith("adaptr_formats.")}  # one more of each new format
    assert len(ours) < HELP_MODULES, sorted(modules)


def test_help_of_the_group_imports_no_command() -> None:
    assert not {m for m in imported("--help") if m.startswith("adaptr.cli.commands")}


def test_inspect_and_methods_import_no_torch(adapter_file: Path) -> None:
    heavy = DENIED - {"importlib.metadata"}  # where third parties' methods are found
    for arguments in (("inspect", str(adapter_file)), ("inspect", "--json", str(adapter_file)), ("methods",)):
        assert not imported(*arguments) & heavy, arguments
    assert not imported("methods", "dora") & heavy
    assert not imported("diff", "--header", str(adapter_file), str(adapter_file)) & heavy


def test_the_store_imports_no_torch(adapter_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    heavy = DENIED - {"importlib.metadata"}
    for arguments in (
        ("tag", str(adapter_file), "style:1"),
        ("list",),
        ("inspect", "style:1"),
        ("gc",),
        ("rm", "style:1"),
    ):
        assert not imported(*arguments) & heavy, arguments
