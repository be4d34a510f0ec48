"""The plugin of vLLM, held against the interface that its sources show: vLLM itself is not installed."""

from __future__ import annotations

import importlib
import json
import logging
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import adaptr
import tiny
from adaptr.artifacts import trust
from adaptr.registry.store import Store
from adaptr.testing import assert_close, logits, shaken
from handing import stub
from registry.signers import key, no_password

Server = Callable[..., stub.Registry]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """vLLM that loads its plugins, `allow` being what requests may name."""
    monkeypatch.setenv("ADAPTR_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ADAPTR_POLICY", raising=False)
    monkeypatch.delenv("ADAPTR_VLLM_BASE", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)

    def start(allow: str, version: str = "0.28.0") -> stub.Registry:
        monkeypatch.setenv("ADAPTR_VLLM_ALLOW", allow)
        registry = stub.installed(monkeypatch, version)
        entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
        module, _, function = entry["vllm.general_plugins"]["adaptr_lora_resolver"].partition(":")
        for _ in range(2):  # vLLM may load a plugin in more than one process, and more than once
            getattr(importlib.import_module(module), function)()
        return registry

    return start


def published(folder: Path, method: str = "lora", **config: object) -> tuple[str, Path]:
    """An adapter in a layout on this machine, what it is called there, and the base."""
    model = tiny.model("llama")
    model.save_pretrained(folder / "llama")
    one = shaken(adaptr.create(model, method, ["attn.q", "mlp.down"], **config))
    adaptr.save(one, folder / "a.safetensors", force=True)
    reference = f"file://{folder}/layout#style"
    adaptr.push(str(folder / "a.safetensors"), reference, force=True)
    return reference, folder / "llama"


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_what_a_request_names_is_pulled_converted_and_handed_over(tmp_path: Path, server: Server) -> None:
    from peft import PeftModel

    registry = server(f"file://{tmp_path}/layout*")
    reference, base = published(tmp_path, r=4, rslora=True)
    found = registry.asked(str(base), reference)
    assert found is not None
    assert found.lora_name == reference
    written = json.loads(Path(found.lora_path, "adapter_config.json").read_text())
    assert (written["r"], written["lora_alpha"]) == (4, 4)
    assert adaptr.check(found.lora_path, "vllm@0.28", str(base)).counts == {"applied": 8}
    model = tiny.model("llama")
    with torch.no_grad():
        with adaptr.attach(model, adaptr.load(tmp_path / "a.safetensors")):
            wanted = logits(model(**tiny.inputs("llama"))).clone()
        served = PeftModel.from_pretrained(tiny.model("llama"), found.lora_path).eval()
        assert_close(served(**tiny.inputs("llama")).logits, wanted, 1e-5)


def test_it_is_converted_once_and_again_when_the_name_moves(tmp_path: Path, server: Server) -> None:
    registry = server(f"file://{tmp_path}/*")
    reference, base = published(tmp_path, r=2)
    first, second = (registry.asked(str(base), reference) for _ in range(2))
    assert first == second
    assert first is not None
    written = Path(first.lora_path, "adapter_model.safetensors").stat().st_mtime_ns
    published(tmp_path, r=4)
    third = registry.asked(str(base), reference)
    assert third is not None
    assert third.lora_path != first.lora_path
    assert Path(first.lora_path, "adapter_model.safetensors").stat().st_mtime_ns == written


def test_names_in_the_store(tmp_path: Path, server: Server) -> None:
    registry = server("style, other*")
    reference, base = published(tmp_path, r=2)
    store = Store.default()
    store.put(store.manifest(store.resolve(adaptr.pull(reference).digest)), "style:latest")
    assert registry.asked(str(base), "style") is not None
    assert registry.asked(str(base), "other") is None


def test_only_what_is_allowed_is_asked_for(tmp_path: Path, server: Server) -> None:
    """Clients write the names: no path, no other place, no detour."""
    registry = server(f"file://{tmp_path}/layout*, https://good.test/acme/*, acme/*")
    reference, base = published(tmp_path, r=2)
    (tmp_path / "style").mkdir()
    for name in (
        "gpt-4",
        "style",
        str(tmp_path / "a.safetensors"),
        f"file://{tmp_path}/a.safetensors",
        f"file://{tmp_path}/layout/../a.safetensors",
        f"https://good.test/acme/../evil/a.safetensors#sha256={'0' * 64}",
        f"https://good.test/acme/%2e%2e/evil/a.safetensors#sha256={'0' * 64}",
        "oci://acme/style",
        "hf://acme/style",
        "two words",
        "",
    ):
        assert registry.asked(str(base), name) is None, name
    assert registry.asked(str(base), reference) is not None


def test_without_a_list_nothing_is_registered(server: Server) -> None:
    assert server("").resolvers == {}
    assert server(" , ").resolvers == {}


def test_what_the_policy_refuses_is_not_handed_over(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    registry = server(f"file://{tmp_path}/*")
    reference, base = published(tmp_path, r=2)
    private, public = key(tmp_path / "mine.key")
    policy = tmp_path / "home" / "policy.yaml"
    policy.write_text(rule := f"- scope: '*'\n  keys: ['{public}']\n  mode: enforce\n")
    with caplog.at_level(logging.WARNING, "adaptr"):
        assert registry.asked(str(base), reference) is None
    assert "signed" in caplog.text
    assert not (tmp_path / "home" / "served").exists()
    policy.unlink()
    assert registry.asked(str(base), reference) is not None
    policy.write_text(rule)
    assert registry.asked(str(base), reference) is None, "what was converted before is held against it too"
    trust.sign(reference, private, password=no_password)
    assert registry.asked(str(base), reference) is not None


def test_what_vllm_would_not_load_is_not_handed_over(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    registry = server(f"file://{tmp_path}/*")
    reference, base = published(tmp_path, "dora", r=2)
    with caplog.at_level(logging.WARNING, "adaptr"):
        assert registry.asked(str(base), reference) is None
        assert registry.asked(str(base), f"file://{tmp_path}/layout#none") is None
    assert "loads plain LoRA alone" in caplog.text
    assert "none" in caplog.text


def test_the_base_is_found_in_the_cache_of_the_hub(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    registry = server(f"file://{tmp_path}/*")
    reference, base = published(tmp_path, r=2)
    cache = tmp_path / "hub" / "models--acme--llama"
    (cache / "snapshots").mkdir(parents=True)
    base.rename(cache / "snapshots" / "0123")
    with caplog.at_level(logging.WARNING, "adaptr"):
        assert registry.asked("acme/llama", reference) is not None
        assert "no folder" not in caplog.text
        assert registry.asked("acme/other", reference) is not None
        assert "no folder of `acme/other` is known" in caplog.text


@pytest.mark.parametrize("version", ["0.28.1.dev3+gabc", "0.30.0", "0.1.dev1+gabc", "dev"])
def test_odd_versions(tmp_path: Path, server: Server, version: str) -> None:
    registry = server(f"file://{tmp_path}/*", version)
    reference, base = published(tmp_path, r=2)
    assert registry.asked(str(base), reference) is not None
