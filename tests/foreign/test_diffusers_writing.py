"""What is written for diffusers: its own naming of today, with a configuration for each component."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch

import adaptr
from adaptr import errors as e
from adaptr import foreign
from foreign.test_kohya_writing import equal, made

CONV = "unet.mid_block.resnets.0.conv1"
TEXT = "text_encoder.text_model.encoder.layers.0.mlp.fc1"


def written(adapter: adaptr.Adapter, folder: Path) -> Path:
    foreign.get("diffusers").write(adapter, folder / "out.safetensors")
    return folder / "out.safetensors"


def said(path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(adaptr.inspect(path).metadata["lora_adapter_metadata"])
    return found


@pytest.mark.parametrize("name", ["attn_new", "alpha_new", "patterns_new", "dora_new"])
def test_a_genuine_file_comes_back_with_its_configuration(name: str, shared: Path, tmp_path: Path) -> None:
    source = shared / "formats-refs" / "diffusers" / name / "pytorch_lora_weights.safetensors"
    adaptr.convert(source, tmp_path / "own.adaptr.safetensors")
    adaptr.convert(tmp_path / "own.adaptr.safetensors", tmp_path / "back.safetensors", to="diffusers")
    equal(source, tmp_path / "back.safetensors")
    assert said(tmp_path / "back.safetensors") == said(source)


def test_each_component_has_a_configuration_of_its_own(tmp_path: Path) -> None:
    found = said(written(made(CONV, TEXT, alpha=3.0), tmp_path))
    for path in (CONV, TEXT):
        component, _, inner = path.partition(".")
        assert found[f"{component}.target_modules"] == [inner]
        assert (found[f"{component}.r"], found[f"{component}.lora_alpha"]) == (2, 3.0)


def test_ranks_and_scales_of_their_own_are_patterns(tmp_path: Path) -> None:
    adapter = made(CONV, "unet.mid_block.resnets.1.conv1", "unet.mid_block.resnets.2.conv1")
    first = adapter.targets[CONV]
    other = adaptr.Target(CONV, first.kind, first.shape, {**first.config, "alpha": 7.0})
    adapter = adapter.replace(targets={**adapter.targets, CONV: other})
    path = written(adapter, tmp_path)
    assert adaptr.load(path).targets[CONV].config["alpha"] == 7.0
    assert said(path)["unet.lora_alpha"] == 1.0


def test_what_comes_from_kohya_goes_to_diffusers(tmp_path: Path) -> None:
    """The scale is where diffusers looks for it, and the names are those of modules."""
    foreign.get("kohya").write(made(CONV, TEXT, alpha=3.0), tmp_path / "kohya.safetensors")
    adaptr.convert(tmp_path / "kohya.safetensors", tmp_path / "out.safetensors", to="diffusers")
    found = adaptr.load(tmp_path / "out.safetensors")
    torch.testing.assert_close(found[TEXT].dense(), made(TEXT, alpha=3.0)[TEXT].dense())
    assert f"{TEXT}.lora_A.weight" in safetensors.torch.load_file(tmp_path / "out.safetensors")


def test_a_path_of_no_component_is_refused(tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match="begins with no component"):
        written(made("model.layers.0.self_attn.q_proj"), tmp_path)


def test_a_method_that_diffusers_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match="no equivalent of `loha`"):
        written(made(CONV).replace(method="loha"), tmp_path)
