"""Inputs of every command in one folder, which no test changes."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptr import api
from cli.conftest import randomised
from registry.signers import key


@pytest.fixture(scope="module")
def kit(llama: Path, lora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    here = tmp_path_factory.mktemp("outputs") / "here"
    shutil.copytree(llama, here / "base")
    shutil.copyfile(lora, here / "a.safetensors")
    adapter = randomised(llama, "b")
    api.save(randomised(llama, "p", "prompt", None), here / "p.safetensors")
    api.save(adapter.replace(tensors={k: 2 * t for k, t in adapter.tensors.items()}), here / "b.safetensors")
    api.convert(here / "b.safetensors", here / "style", "peft")
    api.merge(here / "base", [here / "a.safetensors"], here / "merged")
    (here / "r.yaml").write_text("inputs:\n  - adapter: style\n  - adapter: a.safetensors\n")
    (here / "d.tsv").write_text("".join(f"w{i}\tw{i + 1}\n" for i in range(20)))
    (here / "d.jsonl").write_text("".join(f'{{"prompt": "w{i} ", "completion": "w{i + 1}"}}\n' for i in range(20)))
    key(here / "k.key", 256)
    return here


@pytest.fixture(autouse=True)
def nothing_changes(kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    before = tree(kit)
    yield
    assert tree(kit) == before


def tree(folder: Path) -> dict[str, str]:
    """All below a folder: files by their content."""
    paths = sorted(folder.rglob("*"))
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "" for p in paths}
