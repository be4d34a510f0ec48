"""Where a merge goes, and what it is of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import checkpoints as c
from adaptr import api
from adaptr.adapter import Target
from adaptr.algebra.portable import Portable
from adaptr.errors import (
    InputError,
    OutputExists,
)
from adaptr.files import record
from adaptr.merging import receipt


def test_what_is_there_stays_unless_forced(tmp_path: Path) -> None:
    base = c.saved("llama", tmp_path / "base")
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    with pytest.raises(OutputExists):
        api.merge(base, [c.randomised(base)], out)
    assert [p.name for p in out.iterdir()] == ["mine"]
    with pytest.raises(OutputExists, match="`mine`"):
        api.merge(base, [c.randomised(base)], out, force=True)
    assert [p.name for p in out.iterdir()] == ["mine"]
    (out / "mine").unlink()
    for seed in (1, 2):
        api.merge(base, [c.randomised(base, seed=seed)], out, force=True)
        assert api.verify(out, base, [c.randomised(base, seed=seed)]).exact


def test_a_single_file_has_nothing_beside_it(tmp_path: Path) -> None:
    base = c.saved("llama", tmp_path / "base")
    file = base / "model.safetensors"
    report = api.merge(file, [c.randomised(base)], tmp_path / "out")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"model.safetensors", receipt.FOLDER, record.NAME}
    assert report.receipt_bytes
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert (tmp_path / "back/model.safetensors").read_bytes() == file.read_bytes()


def test_a_folder_that_is_no_checkpoint(tmp_path: Path) -> None:
    adapter = c.lora_at(Target("q", "linear", (8, 8)))
    with pytest.raises(InputError, match="there is no checkpoint"):
        api.merge(tmp_path / "nowhere", [adapter], tmp_path / "out")


def test_layers_that_only_add_are_one_product_for_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merging with a receipt asks for what the adapters add to a block once."""
    base = c.bare(tmp_path / "base", {"q.weight": torch.randn(64, 48).bfloat16()})
    adapters = [c.lora_at(Target("q", "linear", (64, 48)), seed=seed) for seed in (1, 2)]
    asked: list[slice] = []
    real = Portable.add_rows
    monkeypatch.setattr(Portable, "add_rows", lambda op, W, s: (asked.append(s), real(op, W, s))[1])
    api.merge(base, adapters, tmp_path / "out")
    assert len(asked) == len(adapters)
    monkeypatch.undo()
    api.unmerge(tmp_path / "out", tmp_path / "back")
    assert (tmp_path / "back/model.safetensors").read_bytes() == (base / "model.safetensors").read_bytes()
