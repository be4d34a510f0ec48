"""diffusers' LoRA in its three ways of naming, and ComfyUI's and OneTrainer's, which have the modules' paths too."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

import adaptr
from adaptr import errors as e
from adaptr import foreign
from foreign.test_kohya import published, saved

Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
STYLES = ("new", "nometa", "diffusers", "kohya")


def pair(down: str, up: str, r: int = 2) -> dict[str, Tensor]:
    return {down: torch.randn(r, 4), up: torch.randn(3, r)}


def peft(path: str, r: int = 2) -> dict[str, Tensor]:
    return pair(f"{path}.lora_A.weight", f"{path}.lora_B.weight", r)


def configured(**fields: object) -> dict[str, str]:
    return {"lora_adapter_metadata": json.dumps({f"unet.{name}": value for name, value in fields.items()})}


def only(adapter: adaptr.Adapter) -> adaptr.Target:
    (target,) = adapter.targets.values()
    return target


@pytest.mark.parametrize(
    ("tensors", "path", "tool"),
    [
        (pair(f"{Q[:-5]}.processor.to_q_lora.down.weight", f"{Q[:-5]}.processor.to_q_lora.up.weight"),
         f"unet.{Q}", "diffusers"),
        (pair(f"unet.{Q[:-5]}.processor.to_out_lora.down.weight", f"unet.{Q[:-5]}.processor.to_out_lora.up.weight"),
         f"unet.{Q[:-4]}to_out.0", "diffusers"),
        (pair(f"unet.{Q}.lora.down.weight", f"unet.{Q}.lora.up.weight"), f"unet.{Q}", "diffusers"),
        (pair("text_encoder.text_model.encoder.layers.0.self_attn.to_out_lora.down.weight",
              "text_encoder.text_model.encoder.layers.0.self_attn.to_out_lora.up.weight"),
         "text_encoder.text_model.encoder.layers.0.self_attn.out_proj", "diffusers"),
        (pair("text_encoder_2.encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight",
              "text_encoder_2.encoder.layers.0.self_attn.q_proj.lora_linear_layer.up.weight"),
         "text_encoder_2.encoder.layers.0.self_attn.q_proj", "diffusers"),
        (pair("diffusion_model.double_blocks.0.img_attn.qkv.lora_down.weight",
              "diffusion_model.double_blocks.0.img_attn.qkv.lora_up.weight"),
         "transformer.double_blocks.0.img_attn.qkv", "comfyui"),
        (peft("diffusion_model.blocks.0.cross_attn.k_proj"), "transformer.blocks.0.cross_attn.k_proj", "comfyui"),
        (pair("double_blocks.3.processor.qkv_lora1.down.weight", "double_blocks.3.processor.qkv_lora1.up.weight"),
         "transformer.double_blocks.3.img_attn.qkv", "xlabs"),
        (pair("double_blocks.3.processor.proj_lora2.down.weight", "double_blocks.3.processor.proj_lora2.up.weight"),
         "transformer.double_blocks.3.txt_attn.proj", "xlabs"),
        (pair(f"unet.{Q}.lora_down.weight", f"unet.{Q}.lora_up.weight") | {f"unet.{Q}.alpha": torch.tensor(2.0)},
         f"unet.{Q}", "onetrainer"),
    ],
)  # fmt: skip
def test_a_tensor_is_of_the_module_that_its_tool_means(
    tensors: Mapping[str, Tensor], path: str, tool: str, tmp_path: Path
) -> None:
    file = saved(tmp_path, tensors)
    found = adaptr.load(file if tool in {"onetrainer", "xlabs"} else adaptr.source(file, scale=1.0))
    assert (foreign.of(file).name, list(found.targets)) == (tool, [path])
    down, up = list(tensors.values())[:2]
    torch.testing.assert_close(found[path].dense(), up @ down, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("fields", "scale"),
    [
        ({"r": 2, "lora_alpha": 5}, 2.5),
        ({"r": 2, "lora_alpha": 5, "use_rslora": True}, 5 / 2**0.5),
        ({"r": 4, "lora_alpha": 5, "rank_pattern": {"to_q": 2}, "alpha_pattern": {"to_q": 3}}, 1.5),
    ],
)
def test_the_scale_is_the_configurations(fields: Mapping[str, object], scale: float, tmp_path: Path) -> None:
    tensors = peft(f"unet.{Q}")
    found = adaptr.load(saved(tmp_path, tensors, configured(**fields)))
    down, up = tensors.values()
    torch.testing.assert_close(found[f"unet.{Q}"].dense(), scale * up @ down, atol=1e-5, rtol=0)


def test_a_rank_that_the_configuration_denies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(e.ConfigConflict, match=r"rank 2.*wanted 8"):
        adaptr.load(saved(tmp_path, peft(f"unet.{Q}"), configured(r=8, lora_alpha=8)))


def test_a_component_that_the_configuration_leaves_out_is_refused(tmp_path: Path) -> None:
    tensors = peft("text_encoder.encoder.layers.0.mlp.fc1")
    with pytest.raises(e.ConfigConflict, match="says nothing of `text_encoder`"):
        adaptr.load(saved(tmp_path, tensors, configured(r=2, lora_alpha=2)))


@pytest.mark.parametrize("fields", [{"init_lora_weights": "pissa"}, {"use_qalora": True}])
def test_what_changes_the_meaning_of_the_tensors_is_refused(fields: Mapping[str, object], tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match="|".join(map(str, (*fields, *fields.values())))):
        adaptr.load(saved(tmp_path, peft(f"unet.{Q}"), configured(r=2, lora_alpha=2, **fields)))


@pytest.mark.parametrize(
    ("tensors", "tool"),
    [
        (peft(f"unet.{Q}"), "diffusers"),
        (pair(f"{Q[:-5]}.processor.to_q_lora.down.weight", f"{Q[:-5]}.processor.to_q_lora.up.weight"), "diffusers"),
        (pair(f"unet.{Q}.lora.down.weight", f"unet.{Q}.lora.up.weight"), "diffusers"),
        (peft("diffusion_model.blocks.0.cross_attn.k_proj"), "comfyui"),
    ],
)
def test_an_alpha_that_may_be_lost_is_warned_of(tensors: Mapping[str, Tensor], tool: str, tmp_path: Path) -> None:
    with pytest.warns(e.TrainedOtherwise, match=f"no alpha of 1 modules.*scale 1, as {tool} reads them.*`--alpha`"):
        found = adaptr.load(saved(tmp_path, tensors))
    assert only(found).config["alpha"] == only(found).config["r"]


@pytest.mark.parametrize(("said", "alpha"), [({"alpha": 5.0}, 5.0), ({"scale": 0.5}, 1.0)])
def test_an_alpha_that_is_said_is_taken_in_its_place(said: dict[str, float], alpha: float, tmp_path: Path) -> None:
    found = adaptr.load(adaptr.source(saved(tmp_path, peft(f"unet.{Q}")), **said))
    assert only(found).config["alpha"] == alpha


def test_an_alpha_that_the_configuration_has_is_not_said_again(tmp_path: Path) -> None:
    file = saved(tmp_path, peft(f"unet.{Q}"), configured(r=2, lora_alpha=5))
    with pytest.raises(e.UsageError, match="`--alpha` is given, and the file's `lora_adapter_metadata` has the alpha"):
        adaptr.load(adaptr.source(file, alpha=4))


def test_onetrainer_writes_alphas_and_is_asked_for_them(tmp_path: Path) -> None:
    tensors = pair(f"unet.{Q}.lora_down.weight", f"unet.{Q}.lora_up.weight")
    with pytest.raises(e.ConfigMissing, match="alpha"):
        adaptr.load(saved(tmp_path, tensors))


def test_magnitudes_of_peft_are_of_the_outputs_in_convolutions_too(tmp_path: Path) -> None:
    tensors = {
        "unet.conv_in.lora_A.weight": torch.randn(2, 4, 3, 3),
        "unet.conv_in.lora_B.weight": torch.randn(3, 2, 1, 1),
        "unet.conv_in.lora_magnitude_vector": torch.rand(1, 3, 1, 1),
    }
    found = adaptr.load(saved(tmp_path, tensors, configured(r=2, lora_alpha=2)))
    assert (found.method, found.shapes("unet.conv_in")["m"]) == ("dora", (3,))


def test_a_path_of_no_image_model_is_refused(tmp_path: Path) -> None:
    """A language model's LoRA without PEFT's prefix begins with the same word, and its alpha is in another file."""
    with pytest.raises(e.TargetNotFound, match="no module of an image model"):
        adaptr.load(saved(tmp_path, peft("transformer.h.0.attn.c_attn"), configured(r=2, lora_alpha=2)))


def test_a_module_under_two_names_is_refused(tmp_path: Path) -> None:
    tensors = peft(f"unet.{Q}") | pair(f"{Q}.lora.down.weight", f"{Q}.lora.up.weight")
    with pytest.raises(e.ConfigConflict, match="two names"):
        adaptr.load(saved(tmp_path, tensors, configured(r=2, lora_alpha=2)))


def test_norms_that_a_control_lora_trains_are_whole_parameters(tmp_path: Path) -> None:
    name = "double_blocks.0.img_attn"
    tensors = peft(f"{name}.proj") | {f"{name}.proj.lora_B.bias": torch.ones(3)}
    tensors |= {f"{name}.norm.key_norm.scale": torch.ones(2)}
    with pytest.warns(e.TrainedOtherwise):
        found = adaptr.load(saved(tmp_path, tensors))
    assert list(found.replaced) == [f"transformer.{name}.norm.key_norm.scale"]
    assert found.targets[f"transformer.{name}.proj"].config["bias"]


# ---------------------------------------------------------------- genuine files


def text_encoder(folder: Path) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    said = json.loads((folder / "base" / "text_encoder_config.json").read_text())
    model: nn.Module = transformers.CLIPTextModel(transformers.CLIPTextConfig(**said))
    found = safetensors.torch.load_file(folder / "base" / "text_encoder.safetensors")
    model.load_state_dict({key: value.float() for key, value in found.items()})
    return model.eval()


def of_text(adapter: adaptr.Adapter) -> adaptr.Adapter:
    """What an adapter has for the text encoder."""
    targets = {path: target for path, target in adapter.targets.items() if path.startswith("text_encoder.")}
    tensors = {key: value for key, value in adapter.tensors.items() if key.startswith("text_encoder.")}
    return adapter.replace(targets=targets, tensors=tensors)


#: Files whose alpha is not lost.
WHOLE = ("attn_new", "attn_nometa", "attn_diffusers", "attn_kohya", "alpha_new", "patterns_new", "dora_new")


@pytest.mark.parametrize("name", WHOLE)
def test_genuine_files_give_what_diffusers_computes(name: str, shared: Path) -> None:
    folder = shared / "formats-refs" / "diffusers"
    want = safetensors.torch.load_file(folder / name / "expected.safetensors")
    model = nn.ModuleDict({"text_encoder": text_encoder(folder)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", e.TrainedOtherwise)
        found = of_text(adaptr.load(folder / name / "pytorch_lora_weights.safetensors"))
    with torch.no_grad(), adaptr.attach(model, found):
        torch.testing.assert_close(model["text_encoder"](want["ids"])[0], want["te_out"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["alpha", "dora", "patterns"])
@pytest.mark.parametrize("style", ["nometa", "kohya"])
def test_a_file_that_lost_its_alpha_is_the_same_at_scale_1(name: str, style: str, shared: Path) -> None:
    folder = shared / "formats-refs" / "diffusers"
    whole = adaptr.load(folder / f"{name}_new" / "pytorch_lora_weights.safetensors")
    with pytest.warns(e.TrainedOtherwise, match="not known"):
        found = adaptr.load(folder / f"{name}_{style}" / "pytorch_lora_weights.safetensors")
    assert found.targets.keys() == whole.targets.keys()
    assert all(target.config["alpha"] == target.config["r"] for target in found.targets.values())
    for key, tensor in whole.tensors.items():
        assert torch.equal(found.tensors[key], tensor)


HEADERS = {
    "flux_control_lora_format": 314, "flux_lora_aitoolkit_format": 228, "flux_lora_diffusers_format": 494,
    "flux_lora_diffusers_no_proj_mlp_format": 342, "qwen_image_lora_diffusers_format": 3, "anima_lora_peft_format": 6,
    "flux_lokr_bfl_format": 6,
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_published_headers_are_understood(name: str, shared: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", e.TrainedOtherwise)
        assert len(adaptr.load(published(name, shared, tmp_path)).targets) == HEADERS[name]
