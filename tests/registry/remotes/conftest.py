"""A Hub and static servers on this machine, and what is published there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptr import api
from adaptr.registry.store import Store
from registry.servers.hub import Hub, fake_hub
from registry.servers.safetensors import packed
from registry.servers.static import Static, static_server

CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "acme/base",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["q_proj"],
    "bias": "none",
}
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"
WEIGHTS = packed({f"{LAYER}.lora_A.weight": (2, 8), f"{LAYER}.lora_B.weight": (8, 2)})
#: A PEFT adapter as it is published.
PEFT = {
    "adapter_config.json": json.dumps(CONFIG).encode(),
    "adapter_model.safetensors": WEIGHTS,
    "README.md": b"---\nlicense: mit\n---\n# A style\n",
}


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No account, no store and no lock file but this test's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "adaptr"))
    for name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE", "ADAPTR_ALLOW_UNPINNED"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with one adapter, `acme/style`, that `hf://` means in this test."""
    from huggingface_hub import constants

    for name in ("HF_HUB_DISABLE_XET", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setattr(constants, name, True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with fake_hub() as made:
        monkeypatch.setenv("HF_ENDPOINT", made.endpoint)
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
    made = tmp_path / "folder"
    made.mkdir()
    for name, data in PEFT.items():
        (made / name).write_bytes(data)
    return made


@pytest.fixture
def own(folder: Path, tmp_path: Path) -> Path:
    """The same as an adaptr file."""
    out = tmp_path / "style.adaptr.safetensors"
    api.convert(folder, out)
    return out
