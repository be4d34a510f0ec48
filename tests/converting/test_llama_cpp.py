"""Folders for llama.cpp's server and Ollama: the same change as a GGUF LoRA, or a refusal with what works instead."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import adaptr
import checkpoints
from adaptr import errors as e
from adaptr.api import serve


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return checkpoints.saved("llama", tmp_path / "base")


def stored(base: Path, folder: Path, method: str = "lora", **config: object) -> Path:
    adapter = checkpoints.randomised(base, method, ["attn.q", "mlp.down"], **config)
    adaptr.save(adapter, folder / "a.safetensors")
    return folder / "a.safetensors"


def test_a_lora_is_written_as_it_is(base: Path, tmp_path: Path) -> None:
    source = stored(base, tmp_path, r=4, rslora=True)
    report = serve(source, tmp_path / "out", "llama-server", base=base)
    assert (report.server, report.rank, report.error, report.flags) == ("llama-server", 4, 0, "--lora adapter.gguf")
    found, want = adaptr.load(tmp_path / "out"), adaptr.load(source)
    for path in want.targets:
        assert torch.equal(found.at(path)["B"], want.at(path)["B"])
        torch.testing.assert_close(found[path].dense(), want[path].dense())
    assert found.lineage["arguments"]["for"] == "llama-server"


def test_what_has_a_low_rank_becomes_a_lora_and_larger_ones_are_cut(base: Path, tmp_path: Path) -> None:
    source = stored(base, tmp_path, "loha", r=2)
    assert serve(source, tmp_path / "whole", "llama-server", base=base).error == 0
    for path in adaptr.load(source).targets:
        want = adaptr.load(source)[path].dense()
        torch.testing.assert_close(adaptr.load(tmp_path / "whole")[path].dense(), want, atol=1e-6, rtol=1e-5)
    report = serve(source, tmp_path / "cut", "llama-server", base=base, rank=2)
    assert report.rank == 2
    assert 0 < report.error < 1


def test_ollama_gets_a_modelfile_that_says_what_it_takes(base: Path, tmp_path: Path) -> None:
    report = serve(stored(base, tmp_path), tmp_path / "out", "ollama@0.34.0", base=base)
    text = (tmp_path / "out" / "Modelfile").read_text()
    assert "\nADAPTER ./adapter.gguf\n" in text
    assert "before 0.34.1" in text
    assert str(tmp_path) not in text
    assert "llama-server -m BASE.gguf --lora adapter.gguf" in report.flags


@pytest.mark.parametrize("version", ["0.34.1", "0.35"])
def test_an_ollama_that_takes_none_is_refused_with_what_works(version: str, base: Path, tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match=r"refused since 0\.34\.1.*llama-server -m"):
        serve(stored(base, tmp_path), tmp_path / "out", f"ollama@{version}", base=base)
    assert not (tmp_path / "out").exists()


def test_what_it_is_stored_in_is_asked_for(base: Path, tmp_path: Path) -> None:
    report = serve(stored(base, tmp_path), tmp_path / "out", "llama-server", base=base, dtype="fp16")
    assert 0 < report.error < 1e-3
    assert adaptr.inspect(tmp_path / "out").dtypes == {"F16": 8}


def test_what_it_can_not_load_or_know_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(e.ConfigMissing, match="give the base"):
        serve(stored(base, tmp_path), tmp_path / "out", "llama-server")
    with pytest.raises(e.UsageError, match="the rank"):
        serve(tmp_path / "a.safetensors", tmp_path / "out", "llama-server", rank=0)
    (tmp_path / "two").mkdir()
    with pytest.raises(e.Unsupported, match="`dora`"):
        serve(stored(base, tmp_path / "two", "dora"), tmp_path / "out", "ollama", base=base)
    assert not (tmp_path / "out").exists()
