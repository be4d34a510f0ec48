"""Files of every released format version stay readable for ever, with the digests they had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from adaptr.adapter import numel
from adaptr.format import digest, manifest, read, write
from adaptr.format.io import open_tensors

HERE = Path(__file__).resolve().parent
FILES = sorted(HERE.glob("format-*/*.safetensors"))


def recorded(path: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((path.parent / "digests.json").read_text())[path.stem]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_golden_file_is_frozen_and_readable(path, tmp_path):
    assert digest.of_file(path) == recorded(path)["file"]
    adapter = read(path)
    assert digest.of_weights(path, open_tensors(path).header) == recorded(path)["weights"]
    assert digest.of_adapter(adapter) == recorded(path)["weights"]
    assert adapter.summary == "A golden file: ünïcödé."
    assert all(torch.isfinite(tensor.float()).all() for tensor in adapter.tensors.values())
    if path.parent.name == f"format-{manifest.FORMAT}":
        assert write(adapter, tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_every_recorded_file_is_there():
    for digests in HERE.glob("format-*/digests.json"):
        assert set(json.loads(digests.read_text())) == {p.stem for p in digests.parent.glob("*.safetensors")}


def test_every_format_version_has_golden_files():
    assert {p.parent.name for p in FILES} == {f"format-{n}" for n in range(1, manifest.FORMAT + 1)}


def test_golden_files_are_tiny():
    assert all(path.stat().st_size < 8000 for path in FILES)
    assert all(numel(entry.shape for entry in open_tensors(path).header.entries.values()) < 500 for path in FILES)
