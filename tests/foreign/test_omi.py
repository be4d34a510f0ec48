"""The Open Model Initiative's names: the modules that OneTrainer's own conversion (8fd97dcc) makes them of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import adaptr
from adaptr import errors as e
from adaptr import foreign
from foreign.test_kohya import saved

D = 4
#: Flux: OMI's name, and the module in a pipeline.
FLUX = {
    "transformer.double_blocks.3.img_attn.qkv.1": "transformer.transformer_blocks.3.attn.to_k",
    "transformer.double_blocks.3.txt_attn.qkv.2": "transformer.transformer_blocks.3.attn.add_v_proj",
    "transformer.double_blocks.3.img_mod.lin": "transformer.transformer_blocks.3.norm1.linear",
    "transformer.double_blocks.3.txt_mod.lin": "transformer.transformer_blocks.3.norm1_context.linear",
    "transformer.double_blocks.3.img_mlp.0": "transformer.transformer_blocks.3.ff.net.0.proj",
    "transformer.single_blocks.3.linear1.3": "transformer.single_transformer_blocks.3.proj_mlp",
    "transformer.single_blocks.3.linear2": "transformer.single_transformer_blocks.3.proj_out",
    "transformer.time_in.out_layer": "transformer.time_text_embed.timestep_embedder.linear_2",
    "transformer.img_in.proj": "transformer.x_embedder",
    "clip_l.text_model.encoder.layers.0.mlp.fc1": "text_encoder.text_model.encoder.layers.0.mlp.fc1",
    "t5.encoder.block.0.layer.0.SelfAttention.q": "text_encoder_2.encoder.block.0.layer.0.SelfAttention.q",
}
SD3 = {
    "transformer.joint_blocks.0.x_block.attn2.qkv.0": "transformer.transformer_blocks.0.attn2.to_q",
    "transformer.joint_blocks.0.context_block.attn.proj": "transformer.transformer_blocks.0.attn.to_add_out",
    "transformer.joint_blocks.0.x_block.adaLN_modulation.1": "transformer.transformer_blocks.0.norm1.linear",
    "transformer.joint_blocks.0.x_block.mlp.fc2": "transformer.transformer_blocks.0.ff.net.2",
    "transformer.context_embedder": "transformer.context_embedder",
    "transformer.y_embedder.mlp.0": "transformer.time_text_embed.text_embedder.linear_1",
    "clip_g.text_model.encoder.layers.0.mlp.fc1": "text_encoder_2.text_model.encoder.layers.0.mlp.fc1",
    "t5.encoder.block.0.layer.1.DenseReluDense.wo": "text_encoder_3.encoder.block.0.layer.1.DenseReluDense.wo",
}
UNET = {
    "unet.input_blocks.4.1.transformer_blocks.0.attn1.to_q": "unet.input_blocks.4.1.transformer_blocks.0.attn1.to_q",
    "unet.out.2": "unet.out.2",
    "clip_l.text_model.encoder.layers.0.self_attn.q_proj": "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
}


def tensors(names: object, rows: int = 3 * D) -> dict[str, Tensor]:
    found = {}
    for name in names:  # type: ignore[attr-defined]
        found[f"{name}.lora_down.weight"] = torch.randn(2, D)
        found[f"{name}.lora_up.weight"] = torch.randn(rows, 2)
        found[f"{name}.alpha"] = torch.tensor(1.0)
    return found


@pytest.mark.parametrize("names", [FLUX, SD3, UNET])
def test_modules_are_those_of_a_pipeline(names: dict[str, str], tmp_path: Path) -> None:
    file = saved(tmp_path, made := tensors(names))
    assert foreign.of(file).name == "omi"
    found = adaptr.load(file)
    assert found.targets.keys() == set(names.values())
    for name, path in names.items():
        wanted = made[f"{name}.lora_up.weight"] @ made[f"{name}.lora_down.weight"] / 2
        torch.testing.assert_close(found[path].dense(), wanted)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("final_layer.adaLN_modulation.1", "norm_out.linear"),
        ("joint_blocks.7.context_block.adaLN_modulation.1", "transformer_blocks.7.norm1_context.linear"),
    ],
)
def test_scale_and_shift_change_places(name: str, path: str, tmp_path: Path) -> None:
    made = tensors([f"transformer.{name}"], 2 * D)
    delta = made[f"transformer.{name}.lora_up.weight"] @ made[f"transformer.{name}.lora_down.weight"] / 2
    found = adaptr.load(saved(tmp_path, made))
    torch.testing.assert_close(found[f"transformer.{path}"].dense(), torch.cat([delta[D:], delta[:D]]))
    adaptr.convert(tmp_path / "style.safetensors", tmp_path / "out.safetensors")
    again = adaptr.load(tmp_path / "out.safetensors")
    torch.testing.assert_close(again[f"transformer.{path}"].dense(), torch.cat([delta[D:], delta[:D]]))


@pytest.mark.parametrize(("blocks", "turned"), [([7], True), ([7, 8], False), ([1, 30], True), ([1, 20], False)])
def test_a_modulation_that_onetrainer_turned_for_no_block_following_is_refused(
    blocks: list[int], turned: bool, tmp_path: Path
) -> None:
    names = [f"transformer.joint_blocks.{blocks[0]}.context_block.adaLN_modulation.1"]
    names += [f"transformer.joint_blocks.{block}.x_block.mlp.fc1" for block in blocks[1:]]
    file = saved(tmp_path, tensors(names, 6 * D))
    if turned:
        with pytest.raises(e.Unsupported, match="not certain"):
            adaptr.load(file)
    else:
        assert len(adaptr.load(file).targets) == len(names)


def test_a_t5_alone_is_of_no_pipeline(tmp_path: Path) -> None:
    with pytest.raises(e.ConfigMissing, match="which pipeline"):
        adaptr.load(saved(tmp_path, tensors(["t5.encoder.block.0.layer.0.SelfAttention.q"])))


@pytest.mark.parametrize(
    "name",
    [
        "transformer.double_blocks.0.img_attn_qkv.0",
        "transformer.double_blocks.0.img_attn.qkv",
        "transformer.double_blocks.0.img_attn.qkv.3",
        "transformer.double_blocks.0.img_attn.proj.0.linear1.1",
        "transformer.final_layer.nothing",
    ],
)
def test_names_of_other_transformers_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(e.TargetNotFound, match="no module that OMI has"):
        adaptr.load(saved(tmp_path, tensors([name, "clip_l.text_model.encoder.layers.0.mlp.fc1"])))


def test_bundled_words_are_told_of(tmp_path: Path) -> None:
    file = saved(tmp_path, tensors(UNET) | {"bundle_emb.cat.clip_l": torch.randn(2, D)})
    with pytest.warns(e.WeightsIgnored, match=r"bundle_emb\.cat\.clip_l"):
        assert len(adaptr.load(file).targets) == len(UNET)
