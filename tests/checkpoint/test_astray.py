"""Where something else lies than was wanted, the error says what it is and where to go on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import checkpoints as c
from adaptr import api, foreign
from adaptr import errors as e
from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.skeleton import described


@pytest.fixture(scope="module")
def peft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("peft")
    api.save(c.randomised(c.saved("llama", made / "base")), made / "a.safetensors")
    api.convert(made / "a.safetensors", made / "folder", to="peft")
    return made / "folder"


def moved(peft: Path, to: Path) -> Path:
    return Path(shutil.copytree(peft, to))


@pytest.mark.parametrize("opened", [open_checkpoint, described])
def test_an_adapter_is_no_base(peft: Path, opened: Callable[[Path], object]) -> None:
    with pytest.raises(e.CheckpointError, match="is an adapter, wanted a base checkpoint"):
        opened(peft)


def test_an_adapters_file_is_no_base(peft: Path) -> None:
    with pytest.raises(e.CheckpointError, match=r"a\.safetensors` is an adapter, wanted a base checkpoint"):
        open_checkpoint(peft.parent / "a.safetensors")


@pytest.mark.parametrize("opened", [open_checkpoint, described])
def test_a_folder_of_checkpoints_names_them(tmp_path: Path, opened: Callable[[Path], object]) -> None:
    c.saved("llama", tmp_path / "run" / "checkpoint-2")
    with pytest.raises(e.CheckpointError, match=r"name one: `.*run/checkpoint-2`"):
        opened(tmp_path / "run")


def test_a_name_of_the_hub_is_told_how_it_is_said() -> None:
    with pytest.raises(e.InputError, match=r"`hf://meta-llama/Llama-3\.2-1B`"):
        open_checkpoint("meta-llama/Llama-3.2-1B")


def test_a_run_of_adapters_names_them(peft: Path, tmp_path: Path) -> None:
    moved(peft, tmp_path / "checkpoint-2")
    with pytest.raises(e.UnknownFormat, match=r"the folder of a training; .*the last is `.*checkpoint-2`"):
        foreign.of(tmp_path)


def test_an_empty_folder_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(e.UnknownFormat, match=r"holds nothing; give .*`adapter_config\.json`"):
        foreign.of(tmp_path)


@pytest.mark.parametrize("cut", [3, 100])
def test_a_file_cut_short_is_named(peft: Path, tmp_path: Path, cut: int) -> None:
    folder = moved(peft, tmp_path / "cut")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-cut])
    with pytest.raises(e.DataTruncated, match=r"adapter_model\.safetensors`: cut short: .*fetch or copy it again"):
        api.load(folder)


def test_a_pickle_with_code_is_not_recommended(peft: Path, tmp_path: Path) -> None:
    import torch

    folder = moved(peft, tmp_path / "evil")
    (folder / "adapter_model.safetensors").unlink()
    torch.save({"a": Path("x")}, folder / "adapter_model.bin")
    with pytest.raises(e.UnsafePickle, match="it wants to call `pathlib") as refused:
        api.load(folder)
    assert "weights_only" not in str(refused.value)


def test_a_merge_that_would_not_be_finite_says_how_to_look(peft: Path, tmp_path: Path) -> None:
    folder = moved(peft, tmp_path / "nan")
    weights = folder / "adapter_model.safetensors"
    save_file({key: value * float("nan") for key, value in load_file(weights).items()}, weights)
    with pytest.raises(e.NonFinite, match="`adaptr inspect ADAPTER --finite`"):
        api.merge(peft.parent / "base", folder, tmp_path / "out", any_base=True)
