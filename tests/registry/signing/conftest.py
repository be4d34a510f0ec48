"""A key of one's own, a folder to sign, and a store to sign in."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptr.registry.store import Store
from registry.signers import key


@pytest.fixture
def mine(tmp_path: Path) -> tuple[Path, Path]:
    return key(tmp_path / "mine.key")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "m"
    (root / "sub").mkdir(parents=True)
    for name in ("a.safetensors", "sub/b.json", "sub.txt"):
        (root / name).write_text(name)
    return root


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ADAPTR_POLICY", raising=False)
    monkeypatch.chdir(tmp_path)
    return Store.default()
