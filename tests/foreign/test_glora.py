"""PEFT's GLORA, both ways: on layers with a bias and without, in each form."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import adaptr
from adaptr.errors import ConfigConflict, Unsupported
from adaptr.testing import assert_close, shaken
from peft_models import bert, gpt2, llama, made, outputs, scrambled

pytestmark = pytest.mark.filterwarnings("ignore")  # PEFT's and transformers' own
FORMS = [
    ("lora", "lora", "constant"),
    ("vector", "vector", "vector"),
    ("constant", "none", "none"),
    ("none", "vector", "constant"),
]
Build = Callable[[], nn.Module]


def written(peft: Any, build: Build, form: tuple[str, str, str], out: Path) -> nn.Module:
    """What PEFT gives with an adapter that it has saved."""
    modules = ["q_proj", "down_proj"] if build is llama else ["query", "output.dense"]
    config = peft.GloraConfig(r=3, target_modules=modules, config_A_B=form[0], config_C=form[1], config_D_E=form[2])
    theirs = peft.get_peft_model(made(build), config)
    scrambled(theirs)
    theirs.save_pretrained(out)
    found: nn.Module = theirs.eval()
    return found


def exported(adapter: adaptr.Adapter, folder: Path) -> None:
    adaptr.save(adapter, folder / "own.safetensors")
    adaptr.convert(folder / "own.safetensors", folder / "peft", to="peft")


@pytest.mark.parametrize("build", [llama, bert])
@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_what_peft_wrote_does_here_what_it_does_there(
    peft: Any, build: Build, form: tuple[str, str, str], tmp_path: Path
) -> None:
    if build is llama and form[0] == "none":
        pytest.skip("there is nothing left in a layer without a bias")
    theirs, model = written(peft, build, form, tmp_path / "peft"), made(build)
    adapter = adaptr.load(tmp_path / "peft", made(build))
    with adaptr.attach(model, adapter):
        assert_close(outputs(model), outputs(theirs))
    adaptr.save(adapter, tmp_path / "a.safetensors")
    adaptr.convert(tmp_path / "a.safetensors", tmp_path / "back", to="peft")
    was, now = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("peft", "back"))
    assert was.keys() == now.keys()
    assert all(torch.equal(was[key], now[key]) and was[key].dtype == now[key].dtype for key in was)


@pytest.mark.parametrize("build", [llama, bert])
@pytest.mark.parametrize("form", FORMS[:3], ids="-".join)
def test_what_adaptr_wrote_does_there_what_it_does_here(
    peft: Any, build: Build, form: tuple[str, str, str], tmp_path: Path
) -> None:
    model = made(build)
    adapter = shaken(adaptr.create(model, "glora", weights=form[0], inputs=form[1], biases=form[2]))
    exported(adapter, tmp_path)
    theirs = peft.PeftModel.from_pretrained(made(build), tmp_path / "peft").eval()
    with adaptr.attach(model, adapter):
        assert_close(outputs(theirs), outputs(model))


def test_what_peft_has_no_layer_for_is_refused(tmp_path: Path) -> None:
    adapter = adaptr.create(made(gpt2), "glora")
    with pytest.raises(Unsupported, match="linear layers alone"):
        exported(adapter, tmp_path)


def test_zeros_that_are_none_are_refused(peft: Any, tmp_path: Path) -> None:
    written(peft, bert, FORMS[2], tmp_path / "peft")
    file = tmp_path / "peft" / "adapter_model.safetensors"
    tensors = load_file(file)
    next(tensor for key, tensor in tensors.items() if key.endswith("glora_C.zeros"))[0] = 1.0
    save_file(tensors, file)
    with pytest.raises(ConfigConflict, match="zeros alone"):
        adaptr.load(tmp_path / "peft", made(bert))


def test_a_form_that_peft_has_not_is_refused(peft: Any, tmp_path: Path) -> None:
    written(peft, bert, FORMS[0], tmp_path / "peft")
    file = tmp_path / "peft" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "config_C": "constant"}))
    with pytest.raises(ConfigConflict, match="config_C"):
        adaptr.load(tmp_path / "peft", made(bert))
