"""Bases in GGUF files are read as transformers' own loader reads them, whole and by rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import adaptr
from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.reading import reading, whole
from adaptr.errors import AdaptrError, CheckpointError, Unsupported
from gguf_files import WIDTH, base, pair, written


def theirs(file: Path) -> dict[str, torch.Tensor]:
    """What transformers loads."""
    import transformers

    model: Any = transformers.AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    found: dict[str, torch.Tensor] = model.state_dict()
    return found


KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "arch"), [*((kind, "llama") for kind in KINDS), ("Q8_0", "gemma2"), ("F16", "gemma2")]
)
def test_tensors_are_what_transformers_loads(tmp_path: Path, kind: str, arch: str) -> None:
    file = base(tmp_path / "base.gguf", kind, arch)
    found, want = open_checkpoint(file).tensors, theirs(file)
    assert found.keys() == want.keys() - {"lm_head.weight"}  # tied
    for name, stored in found.items():
        assert torch.equal(whole(stored).float(), want[name].float()), name
        with reading(stored) as rows:
            part = rows(slice(1, stored.entry.shape[0]))
            blocks = torch.cat([part.read(slice(i, i + 7)).clone() for i in range(0, part.count, 7)])
        assert torch.equal(blocks, whole(stored)[1:]), name


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["gguf-q8_0", "gguf-q4_k"])
def test_llama_cpps_own_files(shared: Path, name: str) -> None:
    file = shared / "quant-refs" / name / "model.gguf"
    found, want = open_checkpoint(file).tensors, theirs(file)
    assert found.keys() == want.keys()
    assert all(torch.equal(whole(stored).float(), want[key].float()) for key, stored in found.items())


def test_what_was_trained_is_extracted_of_two_files(tmp_path: Path) -> None:
    one = base(tmp_path / "one.gguf", "F16")
    two = tmp_path / "two.gguf"
    two.write_bytes(one.read_bytes())
    entry = open_checkpoint(two).tensors["model.layers.0.mlp.up_proj.weight"]
    values = np.memmap(two, np.float16, "r+", entry.offset, (WIDTH, WIDTH))
    values[:, 0] += 1
    values.flush()
    adaptr.extract(one, two, tmp_path / "made.safetensors", rank=1)
    assert list(adaptr.load(tmp_path / "made.safetensors").targets) == ["model.layers.0.mlp.up_proj"]
    assert not adaptr.diff(one, two).equal
    assert adaptr.diff(one, one).equal


def test_a_tensor_of_another_model(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"blk\.0\.attn_sinks"):
        open_checkpoint(base(tmp_path / "base.gguf", more=("blk.0.attn_sinks",)))


def test_what_models_do_not_keep_is_passed_over(tmp_path: Path) -> None:
    found = open_checkpoint(base(tmp_path / "base.gguf", more=("rope_freqs",)))
    assert "rope_freqs.weight" in found.lying
    assert not any("rope" in name for name in found.tensors)


def test_an_adapter_is_no_base(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no model"):
        open_checkpoint(written(tmp_path / "a.gguf", pair()))


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    file = base(tmp_path / "base.gguf")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(AdaptrError):
        open_checkpoint(file)
