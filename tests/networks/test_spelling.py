"""Names of one module in two libraries, as published checkpoints and the libraries' own converters have them."""

from __future__ import annotations

import pytest

from adaptr.networks import Spelling, spellings, widths

#: diffusers' name, and the checkpoint's: the rows of the second that the first has, where not all.
PAIRS = [
    ("unet.conv_in", "input_blocks.0.0", None),
    ("unet.time_embedding.linear_2", "time_embed.2", None),
    ("unet.add_embedding.linear_1", "label_emb.0.0", None),
    ("unet.down_blocks.0.resnets.1.time_emb_proj", "input_blocks.2.0.emb_layers.1", None),
    ("unet.down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op", None),
    ("unet.down_blocks.1.attentions.0.proj_in", "input_blocks.4.1.proj_in", None),
    ("unet.down_blocks.2.attentions.1.norm", "input_blocks.8.1.norm", None),
    ("unet.mid_block.resnets.1.conv2", "middle_block.2.out_layers.3", None),
    ("unet.mid_block.attentions.0.proj_out", "middle_block.1.proj_out", None),
    ("unet.up_blocks.0.resnets.2.conv_shortcut", "output_blocks.2.0.skip_connection", None),
    ("unet.up_blocks.0.upsamplers.0.conv", "output_blocks.2.1.conv", None),
    ("unet.up_blocks.1.upsamplers.0.conv", "output_blocks.5.2.conv", None),
    ("unet.up_blocks.3.attentions.2.proj_in", "output_blocks.11.1.proj_in", None),
    ("transformer.x_embedder", "img_in", None),
    ("transformer.time_text_embed.guidance_embedder.linear_2", "guidance_in.out_layer", None),
    ("transformer.transformer_blocks.18.attn.to_k", "double_blocks.18.img_attn.qkv", 1),
    ("transformer.transformer_blocks.0.attn.add_v_proj", "double_blocks.0.txt_attn.qkv", 2),
    ("transformer.transformer_blocks.7.ff_context.net.0.proj", "double_blocks.7.txt_mlp.0", None),
    ("transformer.single_transformer_blocks.37.attn.to_q", "single_blocks.37.linear1", 0),
    ("transformer.single_transformer_blocks.37.proj_mlp", "single_blocks.37.linear1", 3),
    ("transformer.single_transformer_blocks.37.proj_out", "single_blocks.37.linear2", None),
    ("transformer.transformer_blocks.23.attn.to_q", "joint_blocks.23.x_block.attn.qkv", 0),
    ("transformer.transformer_blocks.23.attn2.to_v", "joint_blocks.23.x_block.attn2.qkv", 2),
    ("transformer.transformer_blocks.23.norm1.linear", "joint_blocks.23.x_block.adaLN_modulation.1", None),
    ("text_encoder_2.text_model.encoder.layers.31.self_attn.v_proj", "transformer.resblocks.31.attn.in_proj", 2),
    ("text_encoder_2.text_model.encoder.layers.31.mlp.fc2", "transformer.resblocks.31.mlp.c_proj", None),
    ("text_encoder.encoder.layers.0.self_attn.out_proj", "text_model.encoder.layers.0.self_attn.out_proj", None),
]  # fmt: skip


@pytest.mark.parametrize(("path", "name", "part"), PAIRS)
def test_a_module_is_found_under_the_checkpoints_name(path: str, name: str, part: int | None) -> None:
    assert Spelling((name,), part) in list(spellings(path))


@pytest.mark.parametrize(("path", "name"), [(path, name) for path, name, part in PAIRS if part is None])
def test_and_the_other_way_round(path: str, name: str) -> None:
    component, _, rest = path.partition(".")
    assert Spelling((rest,)) in list(spellings(f"{component}.{name}"))


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("norm_out.linear", "final_layer.adaLN_modulation.1"),
        ("transformer_blocks.23.norm1_context.linear", "joint_blocks.23.context_block.adaLN_modulation.1"),
    ],
)
def test_modulations_of_a_scale_and_a_shift_have_them_in_another_order(name: str, other: str) -> None:
    assert Spelling((other,), paired=True) in list(spellings(f"transformer.{name}"))
    assert Spelling((f"transformer.{name}",), paired=True) in list(spellings(f"transformer.{other}"))


def test_a_joined_module_is_its_parts_in_order() -> None:
    q, k, v = (f"transformer.transformer_blocks.3.attn.to_{one}" for one in "qkv")
    assert Spelling((q, k, v)) in list(spellings("transformer.double_blocks.3.img_attn.qkv"))
    single = "transformer.single_transformer_blocks.3"
    parts = (*(f"{single}.attn.to_{one}" for one in "qkv"), f"{single}.proj_mlp")
    assert Spelling(parts) in list(spellings("transformer.single_blocks.3.linear1"))


def test_the_components_prefix_in_published_files() -> None:
    assert Spelling(("model.diffusion_model.input_blocks.4.1.proj_in",)) in list(
        spellings("unet.down_blocks.1.attentions.0.proj_in")
    )
    assert Spelling(("conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1",)) in list(
        spellings("text_encoder.text_model.encoder.layers.0.mlp.fc1")
    )


@pytest.mark.parametrize("path", ["model.layers.0.mlp", "unet", "", "vae.decoder.conv_in", "unet.", "transformer.#"])
def test_what_is_of_no_component_or_no_module_has_no_strange_name(path: str) -> None:
    rest = path.partition(".")[2]
    assert all(len(one.paths) == 1 and one.paths[0].endswith(rest) for one in spellings(path))


def test_that_a_prefix_is_off_is_no_other_name() -> None:
    assert Spelling(("h.0.q",)) not in list(spellings("transformer.h.0.q"))


@pytest.mark.parametrize(
    ("shape", "sizes"), [((72, 24), [24, 24, 24]), ((120, 24), [24, 24, 24, 48]), ((5, 0), [1, 1, 1, 2]), ((2, 3), [2])]
)
def test_the_widths_of_parts(shape: tuple[int, int], sizes: list[int]) -> None:
    assert widths(shape) == sizes
