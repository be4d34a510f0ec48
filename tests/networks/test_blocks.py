"""Strengths by block of a U-Net: presets, lists, and the paths of either library that they fall on."""

from __future__ import annotations

import pytest

from adaptr.adapter.weighting import Layers
from adaptr.errors import UsageError
from adaptr.networks import block_weights
from adaptr.networks.blocks import LISTS, PRESETS

PLACES = {
    "text_encoder.text_model.encoder.layers.0.mlp.fc1": "BASE",
    "text_encoder_2.text_model.encoder.layers.9.mlp.fc1": "BASE",
    "unet.down_blocks.0.attentions.0.proj_in": "IN01",
    "unet.input_blocks.1.1.proj_in": "IN01",
    "unet.down_blocks.2.attentions.1.transformer_blocks.0.attn1.to_q": "IN08",
    "unet.mid_block.attentions.0.proj_in": "M00",
    "unet.middle_block.1.proj_in": "M00",
    "unet.up_blocks.1.attentions.0.proj_in": "OUT03",
    "unet.output_blocks.11.1.proj_in": "OUT11",
}
ALL = {
    "unet.conv_in": "IN00",
    "unet.down_blocks.0.downsamplers.0.conv": "IN03",
    "unet.up_blocks.0.upsamplers.0.conv": "OUT02",
    "unet.up_blocks.3.resnets.2.conv1": "OUT11",
    "unet.down_blocks.3.resnets.1.conv2": "IN11",
}


def at(path: str, said: str) -> float:
    return Layers([path]).weight(block_weights(said), path, "style")


@pytest.mark.parametrize(("path", "block"), PLACES.items())
def test_the_number_of_a_block_falls_on_its_paths(path: str, block: str) -> None:
    names = LISTS[17]
    numbers = [n / 100 for n in range(17)]
    assert at(path, ",".join(map(str, numbers))) == numbers[names.index(block)]


@pytest.mark.parametrize(("path", "block"), {**PLACES, **ALL}.items())
def test_with_all_blocks(path: str, block: str) -> None:
    numbers = [n / 100 for n in range(26)]
    assert at(path, ",".join(map(str, numbers))) == numbers[LISTS[26].index(block)]


def test_a_preset_is_its_list() -> None:
    for name, digits in PRESETS.items():
        assert len(digits) == 17
        assert block_weights(name) == block_weights([float(digit) for digit in digits])
    assert at("unet.mid_block.attentions.0.proj_in", "midd") == 1.0
    assert at("unet.down_blocks.0.attentions.0.proj_in", "MIDD") == 0.0


def test_sdxl_has_twelve() -> None:
    assert at("unet.input_blocks.4.1.proj_in", "0,1,0,0,0,0,0,0,0,0,0,0") == 1.0
    assert at("unet.output_blocks.5.1.proj_in", "0,0,0,0,0,0,0,0,0,0,0,1") == 1.0


@pytest.mark.parametrize("said", ["MIDDLE", "1,2,3", "1,a", "", "1," * 16])
def test_anything_else_is_refused(said: str) -> None:
    with pytest.raises(UsageError):
        block_weights(said)
