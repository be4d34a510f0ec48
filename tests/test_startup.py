"""What costs time to import is imported where it is used: checked in fresh processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import adaptr
import tiny
from adaptr import plugins
from adaptr.format.io import raw_bytes
from adaptr.testing import shaken

DENIED = ("torch", "numpy", "transformers", "safetensors", "httpx", "rich", "pydantic", "peft", "huggingface_hub")
BARE = "import json, sys; before = set(sys.modules)\n"
REPORT = "\nprint(json.dumps(sorted(set(sys.modules) - before)))"


def imported(code: str, *arguments: str) -> list[str]:
    """The modules that `code` brings into a fresh process."""
    command = [sys.executable, "-c", BARE + code + REPORT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


def check(modules: list[str], budget: int) -> None:
    heavy = sorted({m.partition(".")[0] for m in modules} & set(DENIED))
    assert heavy == []
    assert len(modules) <= budget, f"{len(modules)} modules, the budget is {budget}"


def test_the_package_alone_is_nothing() -> None:
    check(imported("import adaptr; adaptr.__version__"), 12)


def test_a_method_brings_its_family_and_no_torch() -> None:
    """Each in a process of its own that begins where `adaptr.plugins` is imported."""
    code = (
        "import os; from adaptr import plugins\n"
        "for name in sys.argv[1:]:\n"
        "    sys.stdout.flush()\n"
        "    if not os.fork():\n"
        "        method = plugins.method(name); method.config(method.small)\n"
        "        print(json.dumps([name, sorted(set(sys.modules) - before)])); sys.stdout.flush(); os._exit(0)\n"
        "    assert os.wait()[1] == 0, name\n"
    )
    names = list(plugins.builtin_files())
    done = subprocess.run([sys.executable, "-c", BARE + code, *names], capture_output=True, text=True, check=True)
    found = dict(json.loads(line) for line in done.stdout.splitlines())
    assert list(found) == names
    for modules in found.values():
        assert any(module.startswith("adaptr_plugins.") for module in modules)
        check(modules, 140)


def test_only_the_method_asked_for_is_imported() -> None:
    modules = imported("from adaptr import plugins; plugins.method('lora')")
    methods = [m for m in modules if m.startswith("adaptr_plugins.") and m.count(".") == 2]
    assert [m for m in methods if not m.startswith("adaptr_plugins.delta._")] == ["adaptr_plugins.delta.lora"]
    assert "importlib.metadata" not in modules, "a built-in must not cost a scan of what is installed"


def test_reading_a_file_needs_neither_torch_nor_numpy(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    adaptr.save(adaptr.create(tiny.model("llama"), "lora"), file)
    code = "from adaptr.format import read; a = read(sys.argv[1]); assert len(a.targets) == 14"
    modules = imported(code, str(file))
    check(modules, 220)


def test_reading_a_file_of_a_built_in_method_scans_no_entry_points(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    adaptr.save(adaptr.create(tiny.model("llama"), "lora"), file)
    code = (
        "from adaptr.discovery import installed; from adaptr.format import read; read(sys.argv[1]); "
        "assert installed._grouped.cache_info().currsize == 0"
    )
    imported(code, str(file))


def test_a_base_of_a_known_architecture_is_asked_without_a_library(tmp_path: Path) -> None:
    model = tiny.model("llama")
    adaptr.save(shaken(adaptr.create(model, "lora"), 1), tmp_path / "a.safetensors")
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(tmp_path / "base")
    code = """
from adaptr import api
found = api.check(sys.argv[1], "vllm", sys.argv[2])
assert found.ok and found.base == "LlamaForCausalLM", found
api.convert(sys.argv[1], sys.argv[3], to="peft", base=sys.argv[2])
"""
    modules = imported(code, *(str(tmp_path / name) for name in ("a.safetensors", "base", "peft")))
    assert sorted({m.partition(".")[0] for m in modules} & {*DENIED} - {"numpy"}) == []


PLAIN = ("lora", "dora", "ia3", "prompt", "adalora", "loha", "lokr")


@pytest.mark.parametrize("method", PLAIN)
def test_a_change_of_format_is_made_without_torch(method: str, tmp_path: Path) -> None:
    """Where no byte of a tensor changes: there, and back again."""
    base = adaptr.Base(id="a/b", architecture="LlamaForCausalLM")
    adaptr.save(shaken(adaptr.create(tiny.model("llama"), method), 1).replace(base=base), tmp_path / "a.safetensors")
    code = "from adaptr import api; api.convert(sys.argv[1], sys.argv[2], to=sys.argv[3])"
    for source, out, to in (("a.safetensors", "peft", "peft"), ("peft", "b.safetensors", "adaptr")):
        modules = imported(code, str(tmp_path / source), str(tmp_path / out), to)
        assert sorted({m.partition(".")[0] for m in modules} & {*DENIED} - {"numpy"}) == []
    one, two = adaptr.load(tmp_path / "a.safetensors"), adaptr.load(tmp_path / "b.safetensors")
    assert {k: bytes(raw_bytes(t)) for k, t in one.tensors.items()} == {
        k: bytes(raw_bytes(t)) for k, t in two.tensors.items()
    }


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "float64"])
def test_of_any_dtype_and_with_whole_parameters(dtype: str, tmp_path: Path) -> None:
    made = shaken(adaptr.create(tiny.model("llama"), "lora"), 1)
    head = {"lm_head.weight:=": torch.ones(tiny.VOCAB, tiny.WIDTH)}
    tensors = {key: tensor.to(getattr(torch, dtype)) for key, tensor in {**made.tensors, **head}.items()}
    adaptr.save(made.replace(tensors=tensors), tmp_path / "a.safetensors")
    code = "from adaptr import api; api.convert(sys.argv[1], sys.argv[2], to='peft')"
    assert "torch" not in imported(code, str(tmp_path / "a.safetensors"), str(tmp_path / "peft"))
    again = adaptr.load(tmp_path / "peft")
    assert {k: (t.dtype, bytes(raw_bytes(t))) for k, t in again.tensors.items()} == {
        k: (t.dtype, bytes(raw_bytes(t))) for k, t in tensors.items()
    }


def test_nan_is_found_without_torch(tmp_path: Path) -> None:
    made = adaptr.create(tiny.model("llama"), "lora")
    bad = {key: torch.full_like(t, float("nan"), dtype=torch.bfloat16) for key, t in made.tensors.items()}
    adaptr.save(made.replace(tensors=bad), tmp_path / "a.safetensors")
    code = """
from adaptr import api, errors
try:
    api.convert(sys.argv[1], sys.argv[2], to='peft')
except errors.NonFinite:
    pass
else:
    raise SystemExit(1)
assert api.inspect(sys.argv[1], finite=True).nonfinite
"""
    assert "torch" not in imported(code, str(tmp_path / "a.safetensors"), str(tmp_path / "peft"))
