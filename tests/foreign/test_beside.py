"""Weights that trainers put beside an adapter are named, and not left out of a merged model in silence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import adaptr
from adaptr import errors as e
from adaptr.__main__ import main
from checkpoints import randomised, saved

NORM = {"base_model.model.model.norm.weight": torch.full((8,), 5.0)}
HEAD = {"v_head.summary.weight": torch.ones(1, 8)}
#: File to what is in it.
BESIDE: dict[str, Any] = {
    "non_lora_trainables.bin": NORM,
    "non_lora_state_dict.bin": NORM,
    "value_head.safetensors": HEAD,
    "value_head.bin": HEAD,
    "pytorch_model.bin": HEAD,
    "model.safetensors": NORM,
    "new_embeddings.safetensors": {"input_embeddings": torch.ones(2, 8), "output_embeddings": torch.ones(2, 8)},
    "mm_projector.bin": NORM,
    "adapter_model.bin": {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 8)},
    "heads.pt": HEAD,
    "unreadable.bin": b"\x80\x04 a pickle of something else",
    "pointer.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n",
}
#: Files that are no weights.
STATE: dict[str, Any] = {
    "optimizer.pt": HEAD,
    "scheduler.pt": HEAD,
    "rng_state_0.pth": HEAD,
    "training_args.bin": HEAD,
    "scaler.pt": HEAD,
    "random_states_0.pkl": b"\x80\x04.",
    "probe.safetensors": {"input_ids": torch.ones(2, 3, dtype=torch.int64), "logits": torch.ones(2, 3)},
    "spiece.bin": b"no weights at all",
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A base in `base` and a PEFT adapter in `a`."""
    saved("llama", tmp_path / "base")
    adapter = randomised(tmp_path / "base", "lora", "attn.q", r=2)
    adaptr.save(adapter, tmp_path / "x.adaptr.safetensors")
    adaptr.convert(tmp_path / "x.adaptr.safetensors", tmp_path / "a", to="peft")
    return tmp_path


def put(path: Path, content: Any) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)


@pytest.mark.parametrize("name", BESIDE)
def test_named_and_refused(home: Path, name: str) -> None:
    put(home / "a" / name, BESIDE[name])
    assert adaptr.inspect(home / "a").beside == (name,)
    assert adaptr.convert(home / "a", home / "y.adaptr.safetensors").beside == (name,)
    with pytest.raises(e.WeightsBeside, match=rf"`{name}`.*ignore_beside=True"):
        adaptr.merge(home / "base", [home / "a"], home / "out")
    assert not (home / "out").exists()
    report = adaptr.merge(home / "base", [home / "a"], home / "out", ignore_beside=True)
    assert any(name in note for note in report.notes)


@pytest.mark.parametrize("name", STATE)
def test_what_is_no_weight_is_nothing(home: Path, name: str) -> None:
    put(home / "a" / name, STATE[name])
    assert adaptr.inspect(home / "a").beside == ()
    assert adaptr.load(home / "a").targets
    adaptr.merge(home / "base", [home / "a"], home / "out")


def test_a_copy_in_another_container_is_nothing_new(home: Path) -> None:
    torch.save(load_file(home / "a" / "adapter_model.safetensors"), home / "a" / "adapter_model.bin")
    assert adaptr.inspect(home / "a").beside == ()


@pytest.mark.parametrize("call", [adaptr.load, lambda path: adaptr.compose([path])])
def test_python_warns(home: Path, call: Callable[[Path], Any]) -> None:
    put(home / "a" / "value_head.bin", HEAD)
    with pytest.warns(e.WeightsIgnored, match=r"value_head\.bin"):
        call(home / "a")


def test_an_adapter_that_was_loaded_is_held_against_its_folder(home: Path) -> None:
    put(home / "a" / "value_head.bin", HEAD)
    with pytest.warns(e.WeightsIgnored):
        adapter = adaptr.load(home / "a")
    with pytest.raises(e.WeightsBeside):
        adaptr.merge(home / "base", [adapter], home / "out")


def test_the_weights_named_as_a_file(home: Path) -> None:
    put(home / "a" / "value_head.bin", HEAD)
    assert adaptr.inspect(home / "a" / "adapter_model.safetensors").beside == ("value_head.bin",)


def test_an_adaptr_folder(home: Path) -> None:
    (home / "b").mkdir()
    adaptr.convert(home / "a", home / "b")
    put(home / "b" / "value_head.bin", HEAD)
    assert adaptr.inspect(home / "b").beside == ("value_head.bin",)
    with pytest.raises(e.WeightsBeside):
        adaptr.merge(home / "base", [home / "b"], home / "out")


def test_on_the_command_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(home / "a" / "value_head.bin", HEAD)
    a, base, out = str(home / "a"), str(home / "base"), str(home / "out")
    for args in (["inspect", a], ["convert", a, "-o", str(home / "y.adaptr.safetensors")]):
        assert main(args) == 0
        assert "value_head.bin" in capsys.readouterr().out
    assert main(["merge", base, a, "-o", out]) == e.WeightsBeside.exit_code
    assert "--ignore-beside" in capsys.readouterr().err
    assert main(["merge", base, a, "-o", out, "--ignore-beside", "--json"]) == 0
    assert "value_head.bin" in json.loads(capsys.readouterr().out)["notes"][-1]
    assert main(["compose", a, "-o", str(home / "c.adaptr.safetensors"), "--json"]) == 0
    told = capsys.readouterr()
    assert "note: " in told.err
    assert "value_head.bin" in told.err
    json.loads(told.out)
