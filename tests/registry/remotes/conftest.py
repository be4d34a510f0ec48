"""A Hub and static servers on this machine, and what is published there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptr import api
from adaptr.registry.store import Store
from registry.published import PEFT, written
from registry.servers.hub import fake_hub, meant
from registry.servers.repositories import Hub
from registry.servers.static import Static, static_server


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No account, no store and no lock file but this test's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "adaptr"))
    for name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "ADAPTR_ALLOW_UNPINNED"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with one adapter, `acme/style`, that `hf://` means in this test."""
    with fake_hub() as made:
        meant(made, monkeypatch)
        made.add("acme/style", PEFT)
        yield made


@pytest.fixture
def store() -> Store:
    return Store.default()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Static]:
    """A plain web server for the folder `web`."""
    (tmp_path / "web").mkdir()
    with static_server(tmp_path / "web") as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The PEFT adapter as a folder."""
    return written(tmp_path / "folder")


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """The same as an adaptr file."""
    out = tmp_path / "style.adaptr.safetensors"
    api.convert(folder, out)
    return out
