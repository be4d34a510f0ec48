"""Files of kohya's sd-scripts and LyCORIS: what each says comes out, or a refusal by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch

import adaptr
from adaptr import errors as e
from adaptr import foreign

CLIP = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
REFERENCES = ("flux", "flux_dims", "sd15", "sd15_c3lier", "sdxl")


def lora(name: str, r: int = 2, alpha: float | None = 1.0, kernel: tuple[int, ...] = ()) -> dict[str, torch.Tensor]:
    """The tensors of one module (3, 4, *kernel) as sd-scripts writes them."""
    ones = tuple(1 for _ in kernel)
    found = {f"{name}.lora_down.weight": torch.randn(r, 4, *kernel), f"{name}.lora_up.weight": torch.randn(3, r, *ones)}
    return found | ({} if alpha is None else {f"{name}.alpha": torch.tensor(alpha)})


def saved(folder: Path, tensors: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
    path = folder / "style.safetensors"
    safetensors.torch.save_file({key: value.contiguous() for key, value in tensors.items()}, path, metadata)
    return path


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_out_0",
         "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_out.0"),
        ("lora_unet_mid_block_resnets_0_time_emb_proj", "unet.mid_block.resnets.0.time_emb_proj"),
        ("lora_unet_up_blocks_1_attentions_1_transformer_blocks_0_ff_net_0_proj",
         "unet.up_blocks.1.attentions.1.transformer_blocks.0.ff.net.0.proj"),
        ("lora_unet_input_blocks_4_1_proj_in", "unet.input_blocks.4.1.proj_in"),
        ("lora_unet_output_blocks_2_0_emb_layers_1", "unet.output_blocks.2.0.emb_layers.1"),
        ("lora_unet_double_blocks_18_img_mod_lin", "transformer.double_blocks.18.img_mod.lin"),
        ("lora_unet_single_blocks_3_linear1", "transformer.single_blocks.3.linear1"),
        ("lora_unet_final_layer_adaLN_modulation_1", "transformer.final_layer.adaLN_modulation.1"),
        ("lora_unet_joint_blocks_0_x_block_attn_qkv", "transformer.joint_blocks.0.x_block.attn.qkv"),
        ("lora_unet_transformer_blocks_0_attn_add_k_proj", "transformer.transformer_blocks.0.attn.add_k_proj"),
        ("lora_transformer_transformer_blocks_0_norm1_context_linear",
         "transformer.transformer_blocks.0.norm1_context.linear"),
        ("lora_unet_blocks_7_cross_attn_k_img", "transformer.blocks.7.cross_attn.k_img"),
        ("lora_unet_blocks_0_adaln_modulation_cross_attn_1", "transformer.blocks.0.adaln_modulation_cross_attn.1"),
        ("lycoris_transformer_blocks_0_attn_to_q", "transformer.transformer_blocks.0.attn.to_q"),
        (CLIP, "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"),
        ("lora_te_encoder_layers_0_mlp_fc1", "text_encoder.encoder.layers.0.mlp.fc1"),
        ("lora_te2_text_model_encoder_layers_31_self_attn_out_proj",
         "text_encoder_2.text_model.encoder.layers.31.self_attn.out_proj"),
        ("lora_te3_encoder_block_0_layer_1_DenseReluDense_wi_0",
         "text_encoder_3.encoder.block.0.layer.1.DenseReluDense.wi_0"),
        ("lora_te_layers_0_mlp_gate_proj", "text_encoder.layers.0.mlp.gate_proj"),
    ],
)  # fmt: skip
def test_a_name_is_the_path_of_a_component(name: str, path: str, tmp_path: Path) -> None:
    assert list(adaptr.load(saved(tmp_path, lora(name))).targets) == [path]


def test_the_third_text_encoder_of_sd_scripts_is_the_second_of_flux(tmp_path: Path) -> None:
    t5 = "lora_te3_encoder_block_0_layer_0_SelfAttention_q"
    found = adaptr.load(saved(tmp_path, lora(t5) | lora("lora_unet_double_blocks_0_img_attn_proj")))
    assert "text_encoder_2.encoder.block.0.layer.0.SelfAttention.q" in found.targets


def test_a_name_of_no_known_model_is_refused_with_what_is_known_of_it(tmp_path: Path) -> None:
    path = saved(tmp_path, lora("lora_unet_down_blocks_0_mystery"))
    with pytest.raises(e.TargetNotFound, match=r"it knows `down_blocks_0` of them.*give the base"):
        adaptr.load(path)


def test_the_base_says_what_a_name_stands_for(tmp_path: Path) -> None:
    base = torch.nn.ModuleDict({"my_block": torch.nn.ModuleDict({"fc_1": torch.nn.Linear(4, 3)})})
    found = adaptr.load(saved(tmp_path, lora("lycoris_my_block_fc_1")), base)
    assert list(found.targets) == ["my_block.fc_1"]


def test_a_name_that_is_two_places_of_the_base_is_refused(tmp_path: Path) -> None:
    base = torch.nn.ModuleDict({"a_b": torch.nn.Linear(4, 3), "a": torch.nn.ModuleDict({"b": torch.nn.Linear(4, 3)})})
    with pytest.raises(e.TargetAmbiguous, match=r"`a_b` and `a\.b`"):
        adaptr.load(saved(tmp_path, lora("lycoris_a_b")), base)


def test_two_names_of_one_place_are_refused(tmp_path: Path) -> None:
    tensors = lora(CLIP) | lora(CLIP.replace("lora_te_", "lora_te1_"))
    with pytest.raises(e.TargetAmbiguous, match="are both"):
        adaptr.load(saved(tmp_path, tensors))


# ---------------------------------------------------------------- alphas


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_the_scale_is_alpha_over_the_modules_own_rank(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = lora(CLIP, r=4)
    tensors[f"{CLIP}.alpha"] = torch.tensor(3, dtype=dtype)
    found = adaptr.load(saved(tmp_path, tensors))
    want = 0.75 * tensors[f"{CLIP}.lora_up.weight"] @ tensors[f"{CLIP}.lora_down.weight"]
    (path,) = found.targets
    torch.testing.assert_close(found[path].dense(), want, atol=1e-6, rtol=0)


@pytest.mark.parametrize("alpha", [None, 0.0])
def test_an_alpha_that_is_not_there_is_asked_for(alpha: float | None, tmp_path: Path) -> None:
    with pytest.raises(e.ConfigMissing, match=r"not in the file.*`--alpha`.*`ss_network_alpha`"):
        adaptr.load(saved(tmp_path, lora(CLIP, alpha=alpha)))


@pytest.mark.parametrize("alpha", [None, 0.0])
def test_an_alpha_that_is_not_there_can_be_said(alpha: float | None, tmp_path: Path) -> None:
    found = adaptr.load(adaptr.source(saved(tmp_path, lora(CLIP, alpha=alpha)), alpha=7))
    (target,) = found.targets.values()
    assert target.config["alpha"] == 7


def test_an_alpha_that_is_there_is_not_said_again(tmp_path: Path) -> None:
    with pytest.raises(e.UsageError, match="`--scale` is given, and the file has the alpha of each module"):
        adaptr.load(adaptr.source(saved(tmp_path, lora(CLIP)), scale=2.0))


@pytest.mark.parametrize("alpha", [torch.tensor([1.0, 2.0]), torch.tensor(float("nan")), torch.tensor(True)])
def test_an_alpha_that_is_no_number_is_refused(alpha: torch.Tensor, tmp_path: Path) -> None:
    with pytest.raises(e.ConfigConflict, match="one finite number"):
        adaptr.load(saved(tmp_path, {**lora(CLIP), f"{CLIP}.alpha": alpha}))


# ---------------------------------------------------------------- kinds


@pytest.mark.parametrize(
    ("kernel", "kind"), [((), "linear"), ((1, 1), "conv2d"), ((3,), "conv1d"), ((2, 3, 3), "conv3d")]
)
def test_kinds_are_known_from_shapes(kernel: tuple[int, ...], kind: str, tmp_path: Path) -> None:
    found = adaptr.load(saved(tmp_path, lora(CLIP, kernel=kernel)))
    (target,) = found.targets.values()
    assert (target.kind, target.shape) == (kind, (3, 4, *kernel))


def test_magnitudes_of_outputs_make_it_a_dora(tmp_path: Path) -> None:
    found = adaptr.load(saved(tmp_path, lora(CLIP) | {f"{CLIP}.dora_scale": torch.rand(3, 1)}))
    assert (found.method, found.shapes(next(iter(found.targets)))["m"]) == ("dora", (3,))


def test_magnitudes_of_inputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match="magnitudes of the inputs"):
        adaptr.load(saved(tmp_path, lora(CLIP) | {f"{CLIP}.dora_scale": torch.rand(1, 4)}))


@pytest.mark.parametrize("slot", ["oft_diag", "bm.weight", "anything"])
def test_what_has_no_method_is_refused_by_name(slot: str, tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match=rf"`{CLIP}\.{slot}` is of .* can't read .* yet; merge it"):
        adaptr.load(saved(tmp_path, {f"{CLIP}.{slot}": torch.zeros(2, 2, 2), f"{CLIP}.alpha": torch.tensor(1.0)}))


def test_a_dylora_is_read_as_the_lora_that_all_read_it_as(tmp_path: Path) -> None:
    """That of the highest rank, as sd-scripts has it outside training."""
    with pytest.warns(e.TrainedOtherwise, match="a DyLoRA, which was trained at every rank in turn"):
        found = adaptr.load(saved(tmp_path, lora(CLIP), {"ss_network_module": "networks.dylora"}))
    assert found.method == "lora"


@pytest.mark.parametrize("slot", ["lora_up.weight", "lora_down.weight"])
def test_half_a_pair_is_refused(slot: str, tmp_path: Path) -> None:
    tensors = {key: value for key, value in lora(CLIP).items() if not key.endswith(slot)}
    with pytest.raises(e.TensorAbsent, match=f"has no `{slot}`"):
        adaptr.load(saved(tmp_path, tensors))


def test_factors_of_two_ranks_are_refused(tmp_path: Path) -> None:
    tensors = {**lora(CLIP), f"{CLIP}.lora_up.weight": torch.zeros(3, 5)}
    with pytest.raises(e.ConfigConflict, match="rank 2"):
        adaptr.load(saved(tmp_path, tensors))


# ---------------------------------------------------------------- files


def test_metadata_is_kept_and_shown(tmp_path: Path) -> None:
    said = {"ss_network_dim": "2", "modelspec.title": "a style"}
    path = saved(tmp_path, lora(CLIP), said)
    assert adaptr.inspect(path).metadata == said
    adaptr.convert(path, tmp_path / "a.adaptr.safetensors")
    assert adaptr.inspect(tmp_path / "a.adaptr.safetensors").metadata == said


def test_a_folder_of_one_such_file_is_it(tmp_path: Path) -> None:
    saved(tmp_path, lora(CLIP))
    (tmp_path / "readme.md").write_text("a style")
    assert adaptr.load(tmp_path).method == "lora"


def test_what_lies_beside_a_file_is_not_warned_of(tmp_path: Path) -> None:
    path = saved(tmp_path, lora(CLIP))
    path.with_name("other.safetensors").write_bytes(saved(tmp_path, lora(CLIP, r=3)).read_bytes())
    adaptr.load(path)


def test_the_same_content_is_the_same_bytes_whatever_order_it_lay_in(tmp_path: Path) -> None:
    tensors = lora(CLIP) | lora("lora_unet_mid_block_resnets_0_conv1", kernel=(3, 3))
    made = []
    for name, keys in (("a", list(tensors)), ("b", list(tensors)[::-1])):
        folder = tmp_path / name
        folder.mkdir()
        torch.save({key: tensors[key] for key in keys}, folder / "style.pt")
        adaptr.convert(folder / "style.pt", folder / "out.adaptr.safetensors")
        made.append(adaptr.inspect(folder / "out.adaptr.safetensors").weights_digest)
    assert made[0] == made[1]


def test_an_adapter_of_several_components_is_attached_to_them_together(tmp_path: Path) -> None:
    """The base is a module whose children are called as pipelines call them."""
    nested: torch.nn.Module = torch.nn.Linear(4, 3)
    for name in reversed(["text_model", "encoder", "layers", "0", "self_attn", "q_proj"]):
        nested = torch.nn.ModuleDict({name: nested})
    unet = torch.nn.ModuleDict({"conv_in": torch.nn.Conv2d(4, 3, 3)})
    base = torch.nn.ModuleDict({"text_encoder": nested, "unet": unet})
    tensors = lora(CLIP) | lora("lora_unet_conv_in", kernel=(3, 3))
    x = torch.randn(1, 4, 8, 8)
    before = unet["conv_in"](x)
    with adaptr.attach(base, adaptr.load(saved(tmp_path, tensors), base)):
        assert not torch.equal(unet["conv_in"](x), before)


# ---------------------------------------------------------------- genuine files


@pytest.mark.parametrize("name", REFERENCES)
def test_genuine_files_give_what_their_tool_computes(name: str, shared: Path) -> None:
    folder = shared / "formats-refs" / "kohya" / name
    agrees(folder, "expected.safetensors")


def test_a_split_file_is_read_as_readers_do_and_says_so(shared: Path) -> None:
    with pytest.warns(e.TrainedOtherwise, match="split_qkv"):
        agrees(shared / "formats-refs" / "kohya" / "flux_split", "expected_by_readers.safetensors")


def agrees(folder: Path, expected: str) -> None:
    found = adaptr.load(folder / "lora.safetensors")
    names = json.loads((folder / "names.json").read_text())
    want = safetensors.torch.load_file(folder / expected)
    assert set(found.targets) == set(names.values())
    for path in found.targets:
        weight = want[f"{path}.weight"]
        torch.testing.assert_close(found[path].dense().reshape(weight.shape), weight, atol=1e-6, rtol=0)


HEADERS = {
    "anima_lora_kohya_format": 11, "anima_lora_kohya_with_te_format": 9, "flux_lora_kohya_format": 304,
    "flux_lora_kohya_with_te1_format": 376, "krea2_lora_kohya_format": 40,
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_published_headers_are_understood(name: str, shared: Path, tmp_path: Path) -> None:
    assert len(adaptr.load(published(name, shared, tmp_path)).targets) == HEADERS[name]


def published(name: str, shared: Path, folder: Path) -> Path:
    """A file with the names of a published one, whose shapes are known, and no more than 8 of each axis."""
    said = json.loads((shared / "real" / "headers-invokeai" / f"{name}.json").read_text())["shapes"]
    return saved(folder, {key: torch.ones([min(size, 8) for size in shape]) for key, shape in said.items()})


def test_inspecting_needs_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = saved(tmp_path, lora(CLIP))
    code = f"import sys, adaptr; print(adaptr.inspect({str(path)!r}).method, 'torch' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "lora False"


def test_it_is_a_kohya_file(tmp_path: Path) -> None:
    assert foreign.of(saved(tmp_path, lora(CLIP))).name == "kohya"
