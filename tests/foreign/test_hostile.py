"""PEFT folders made to do harm: nothing of them is executed, and none costs memory or time."""

from __future__ import annotations

import os
import pickle
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
from adaptr import errors as e
from adaptr.converting.exporting import WRAPPERS
from adaptr.foreign.peft import keys, types
from foreign.peft_folders import Q, folder, tensors


class Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_not_executed(tmp_path: Path, zipped: bool, protocol: int) -> None:
    """The bomb would make a folder; a control shows that it works."""
    path = folder(tmp_path / "a")
    (path / "adapter_model.safetensors").unlink()
    bomb = {f"{Q}.lora_A.weight": Bomb(tmp_path / "boom")}
    weights = path / "adapter_model.bin"
    if zipped:
        with zipfile.ZipFile(weights, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(bomb, protocol))
            archive.writestr("archive/version", "3")
    else:
        weights.write_bytes(pickle.dumps(bomb, protocol))
    for call in (adaptr.load, adaptr.inspect):
        with pytest.raises((e.UnsafePickle, e.ForeignError)):
            call(path)
    (path / "adapter_config.json").unlink()
    with pytest.raises(e.AdaptrError):
        adaptr.load(weights)
    assert not (tmp_path / "boom").exists()
    pickle.loads(pickle.dumps(bomb, protocol))
    assert (tmp_path / "boom").exists()


def test_pickle_of_tensors_loads(tmp_path: Path) -> None:
    path = folder(tmp_path / "a")
    (path / "adapter_model.safetensors").unlink()
    torch.save(tensors(), path / "adapter_model.bin")
    assert adaptr.load(path).tensors["layers.0.q_proj:A"].shape == (4, 6)


def test_pickle_of_something_else(tmp_path: Path) -> None:
    path = folder(tmp_path / "a")
    (path / "adapter_model.safetensors").unlink()
    torch.save([torch.ones(2)], path / "adapter_model.bin")
    with pytest.raises(e.ConfigConflict, match="list"):
        adaptr.load(path)
    torch.save({"a": 3}, path / "adapter_model.bin")
    with pytest.raises(e.TensorUnknown, match="int"):
        adaptr.load(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.safetensors"])
def test_cut_off_files(tmp_path: Path, share: float, name: str) -> None:
    path = folder(tmp_path / "a")
    if name.endswith(".bin"):
        (path / "adapter_model.safetensors").unlink()
        torch.save(tensors(), path / name)
    raw = (path / name).read_bytes()
    (path / name).write_bytes(raw[: int(share * len(raw))])
    with pytest.raises((e.ForeignError, e.FormatError)):
        adaptr.load(path)


def test_an_initial_rank_is_no_reason_to_fill_the_memory(tmp_path: Path) -> None:
    """PEFT lists which of so many triplets are left; found by fuzzing: 15 GB of them."""
    weights = {
        f"{Q}.lora_A": torch.ones(2, 6),
        f"{Q}.lora_B": torch.ones(10, 2),
        f"{Q}.lora_E": torch.ones(2, 1),
    }
    config = {"peft_type": "ADALORA", "init_r": 2**53, "lora_alpha": 8, "target_modules": ["q_proj"], "total_step": 9}
    tracemalloc.start()
    try:
        with pytest.raises(e.Unsupported, match="rank_pattern"):
            adaptr.load(folder(tmp_path / "a", config, weights))
        assert tracemalloc.get_traced_memory()[1] < 100 << 20  # what is imported counts
    finally:
        tracemalloc.stop()
    made = adaptr.load(folder(tmp_path / "b", {**config, "init_r": 4}, weights))
    assert made.targets["layers.0.q_proj"].config["begun"] == 4


@pytest.mark.parametrize("shape", [(6,), (1, 6, 1), ()])
def test_blocks_of_another_number_of_axes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    config = {"peft_type": "OFT", "oft_block_size": 4, "target_modules": ["q_proj"], "peft_version": "0.19.0"}
    with pytest.raises(e.ConfigConflict, match="wanted \\(blocks, entries\\)"):
        adaptr.load(folder(tmp_path / "a", config, {f"{Q}.oft_R.weight": torch.ones(shape)}))


@pytest.mark.parametrize("slot", ["lora_A", "lora_embedding_A", "lokr_w1", "vera_lambda_b", "x"])
@pytest.mark.parametrize("end", ["", ".", "..", "..weight", "\n", ".\n"])
def test_a_long_key_is_read_in_no_time(slot: str, end: str) -> None:
    """A pickle's keys have no limit of length: 200 kB took minutes where slots were tried one after another."""
    started = time.process_time()
    (found,) = keys.read([f"base_model.model.q{f'.{slot}' * 20_000}{end}"], types.slots())
    assert time.process_time() - started < 1
    assert (found.slot == "") == (slot == "x" or end in {".", "..", "..weight"})


def test_wrappers_of_a_long_path_are_looked_for_in_no_time() -> None:
    started = time.process_time()
    for name in ("base_model", "base_layer", "original_module", "modules_to_save"):
        WRAPPERS.fullmatch(f"model{f'.{name}' * 20_000}\n")
    assert time.process_time() - started < 1
