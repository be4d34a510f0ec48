"""A merge that is proven by what lies in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import checkpoints as c
from adaptr import api
from adaptr.adapter import Adapter
from adaptr.errors import DigestMismatch, MachineError, NotMerged, UsageError
from merging.test_verify import Q, edit


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return c.saved("llama", tmp_path / "base", torch.bfloat16, shard="40KB")


@pytest.fixture
def adapter(base: Path) -> Adapter:
    return c.randomised(base, targets=["attn.q", "mlp.down"])


@pytest.fixture
def merged(base: Path, adapter: Adapter, tmp_path: Path) -> Path:
    api.merge(base, (adapter, {"*": [0.5, 1]}), tmp_path / "out")
    return tmp_path / "out"


def test_a_merge_is_proven_by_its_own_receipt(merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(room))
    report = api.verify(merged)
    assert (report.exact, report.alone, report.recomputed, report.compared) == (True, True, 4, [])
    assert not list(room.iterdir())


def test_with_the_base_the_adapters_are_those_beside_the_receipt(merged: Path, base: Path) -> None:
    report = api.verify(merged, base)
    assert (report.exact, report.alone) == (True, False)


def test_one_file_and_a_merge_upon_a_merge(merged: Path, base: Path, tmp_path: Path) -> None:
    second = c.randomised(base, seed=3, targets=["attn.v"])
    api.merge(merged, [second], tmp_path / "twice")
    assert api.verify(tmp_path / "twice").exact
    one = c.saved("llama", tmp_path / "one", torch.bfloat16) / "model.safetensors"
    api.merge(one, [second], tmp_path / "file.safetensors", any_base=True)
    assert api.verify(tmp_path / "file.safetensors").exact


@pytest.mark.parametrize("name", [Q, "model.norm.weight"])
def test_what_was_changed_since_is_not_proven(name: str, merged: Path) -> None:
    edit(merged, name, lambda tensor: tensor + 1)
    with pytest.raises(DigestMismatch):
        api.verify(merged)


def test_what_can_not_be_proven_so_is_refused(
    base: Path, adapter: Adapter, merged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotMerged):
        api.verify(base)
    with pytest.raises(UsageError, match="no base"):
        api.verify(merged, adapters=[adapter])
    api.merge(base, [adapter], tmp_path / "bare", receipt=False)
    with pytest.raises(NotMerged, match="--no-receipt"):
        api.verify(tmp_path / "bare")
    assert api.verify(tmp_path / "bare", base).exact

    def full(_: Any) -> Any:
        return type("Usage", (), {"free": 1})

    monkeypatch.setattr("shutil.disk_usage", full)
    with pytest.raises(MachineError, match="TMPDIR"):
        api.verify(merged)


def test_the_command_says_by_what(merged: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from adaptr.cli import run

    assert run(["verify", str(merged)]) == 0
    assert "its own receipt" in capfd.readouterr().out
