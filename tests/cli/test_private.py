"""Nothing of the machine is in what is written: no path or part of one, no user, no host."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

import adaptr
import checkpoints
from adaptr.cli import run

#: Every part of the paths that the commands are given has this in it.
MARK = "zqmarked"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a base, two adapters made of it, and a PEFT folder of somebody else."""
    root = tmp_path / f"{MARK}-home" / f"{MARK}-work"
    root.mkdir(parents=True)
    for name in ("USER", "LOGNAME", "HOSTNAME"):
        monkeypatch.setenv(name, f"{MARK}-{name}")
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / f"{MARK}-home" / "adaptr"))
    monkeypatch.chdir(root)
    base = checkpoints.saved("llama", root / f"{MARK}-base")
    model = checkpoints.model_of(base)
    assert str(base) in model.config._name_or_path
    for number, name in enumerate("ab"):
        adapter = adaptr.create(model, "lora", ["attn.q"], r=2)
        tensors = {key: checkpoints.torch.randn(value.shape) for key, value in adapter.tensors.items()}
        adaptr.save(adapter.replace(tensors=tensors, name=f"n{number}"), root / f"{name}.safetensors")
    run(["convert", "a.safetensors", "--to", "peft", "-o", f"{MARK}-peft", "-q"])
    config = root / f"{MARK}-peft" / "adapter_config.json"
    said = {**json.loads(config.read_text()), "base_model_name_or_path": f"/{MARK}-other/base"}
    config.write_text(json.dumps(said))
    return root


def nothing_marked(out: Path) -> None:
    files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
    assert files
    host = socket.gethostname()
    for path in files:
        raw = path.read_bytes()
        assert MARK.encode() not in raw, path.name
        assert len(host) < 6 or host.encode() not in raw, path.name


BASE = f"{MARK}-base"
COMMANDS: dict[str, list[str]] = {
    "compose": ["compose", "a.safetensors", "b.safetensors", "-o", "out.safetensors"],
    "compose a PEFT folder": ["compose", f"{MARK}-peft", "b.safetensors", "--any-base", "-o", "out.safetensors"],
    "convert": ["convert", f"{MARK}-peft", "-o", "out.safetensors"],
    "convert to PEFT": ["convert", "a.safetensors", "--to", "peft", "-o", "out"],
    "convert PEFT": ["convert", f"{MARK}-peft", "--to", "peft", "-o", "out"],
    "stack": ["stack", "a.safetensors", "b.safetensors", "-o", "out.safetensors"],
    "drop": ["drop", "a.safetensors", "--layers", "0", "-o", "out.safetensors"],
    "resize": ["resize", "a.safetensors", "--rank", "1", "-o", "out.safetensors"],
    "quantize": ["quantize", "a.safetensors", "--scheme", "int8", "-o", "out.safetensors"],
    "merge": ["merge", BASE, "a.safetensors", "-o", "out"],
    "merge a PEFT folder": ["merge", BASE, f"{MARK}-peft", "--any-base", "-o", "out"],
    "push": ["push", "a.safetensors", "file:///OUT#x"],
}


@pytest.mark.parametrize("what", COMMANDS)
def test_no_output_tells_of_the_machine(what: str, place: Path) -> None:
    given = [word.replace("/OUT", str(place / "out")) for word in COMMANDS[what]]
    assert run([*given, "-q"]) == 0
    nothing_marked(next(path for path in (place / "out.safetensors", place / "out") if path.exists()))


def test_extracting_tells_nothing_either(place: Path) -> None:
    assert run(["merge", BASE, "a.safetensors", "-o", f"{MARK}-tuned", "-q"]) == 0
    assert run(["extract", f"{MARK}-tuned", BASE, "--rank", "2", "-o", "out.safetensors", "-q"]) == 0
    nothing_marked(place / "out.safetensors")


def test_what_is_made_in_python_tells_nothing(place: Path) -> None:
    for name in "ab":
        nothing_marked(place / f"{name}.safetensors")
