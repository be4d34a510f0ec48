"""What is written for kohya's tools: genuine files come back tensor for tensor, and what they can't say is refused."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import nn

import adaptr
from adaptr import errors as e
from adaptr import foreign
from adaptr.testing import shaken
from foreign.test_kohya import CLIP, REFERENCES, lora, saved
from foreign.test_lycoris import based

LYCORIS = (
    "boft", "full", "glora", "locon_tucker", "loha", "loha_tucker", "lokr", "lokr_both", "lokr_full", "lokr_tucker",
    "lokr_unbalanced", "lora", "lora_dora", "lora_rs", "lora_scalar",
)  # fmt: skip


def back(source: Path, folder: Path, base: nn.Module | None = None, **given: bool) -> Path:
    """A file as it is after it was adaptr's own."""
    adaptr.convert(source, folder / "own.adaptr.safetensors", base=base)
    adaptr.convert(folder / "own.adaptr.safetensors", folder / "back.safetensors", to="kohya", base=base, **given)
    return folder / "back.safetensors"


def equal(one: Path, other: Path) -> None:
    first, second = safetensors.torch.load_file(one), safetensors.torch.load_file(other)
    assert first.keys() == second.keys()
    for key, tensor in first.items():
        assert tensor.dtype == second[key].dtype
        assert torch.equal(tensor, second[key]), key


@pytest.mark.parametrize("name", [*REFERENCES, "flux_split"])
def test_a_genuine_file_comes_back_with_its_metadata_and_hashes(name: str, shared: Path, tmp_path: Path) -> None:
    source = shared / "formats-refs" / "kohya" / name / "lora.safetensors"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", e.TrainedOtherwise)
        written = back(source, tmp_path)
    equal(source, written)
    with safe_open(source, "pt") as one, safe_open(written, "pt") as other:
        said = other.metadata()
        assert {key: said[key] for key in one.metadata()} == one.metadata()


@pytest.mark.parametrize("name", LYCORIS)
def test_a_file_of_lycoris_comes_back(name: str, shared: Path, tmp_path: Path) -> None:
    folder = shared / "formats-refs" / "lycoris"
    source = folder / name / "lycoris.safetensors"
    equal(source, back(source, tmp_path, based(folder, name)))


@pytest.mark.parametrize("name", ["diag_oft", "diag_oft_constraint", "diag_oft_rescaled", "ia3"])
def test_what_lycoris_has_in_another_form_does_the_same_when_it_comes_back(
    name: str, shared: Path, tmp_path: Path
) -> None:
    folder = shared / "formats-refs" / "lycoris"
    source, base = folder / name / "lycoris.safetensors", based(folder, name)
    one, other = (adaptr.load(file, base) for file in (source, back(source, tmp_path, base)))
    assert (one.method, one.targets) == (other.method, other.targets)
    assert all(torch.equal(tensor, other.tensors[key]) for key, tensor in one.tensors.items())


def turning(method: str, path: str, **config: object) -> adaptr.Adapter:
    model = nn.ModuleDict({path: nn.Linear(8, 16)})
    return shaken(adaptr.create(model, method, [path], **config))


@pytest.mark.parametrize(
    ("method", "config", "said"),
    [
        ("oft", {"b": 4}, "OFT turns outputs, and this one turns inputs"),
        ("oft", {"b": 4, "side": "out", "terms": 5}, "no series"),
        ("boft", {"b": 4}, "BOFT turns outputs"),
        ("boft", {"b": 16, "m": 1, "side": "out"}, ""),
        ("ia3", {"side": "out"}, "scales a weight and not the bias"),
        ("ia3", {"side": "in"}, ""),
        ("glora", {}, r"GLoRA is W \+ W A \+ B"),
        ("glora", {"side": "in", "inputs": "none", "biases": "none"}, ""),
    ],
)
def test_what_turns_or_scales_otherwise_is_refused(
    method: str, config: dict[str, object], said: str, tmp_path: Path
) -> None:
    adapter = turning(method, "fc", **config)
    if not said:
        foreign.get("kohya").write(adapter, tmp_path / "a.safetensors")
        return
    with pytest.raises(e.Unsupported, match=said):
        foreign.get("kohya").write(adapter, tmp_path / "a.safetensors")


@pytest.mark.parametrize(("method", "config"), [
    ("oft", {"b": 4, "side": "out"}), ("oft", {"b": 4, "rescale": True}), ("boft", {"b": 4, "side": "out"}),
    ("ia3", {"bias": False}), ("glora", {"side": "in"}), ("glora", {"alpha": 4.0}),
])  # fmt: skip
def test_pefts_forms_are_of_inputs_and_of_biases(method: str, config: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match=f"PEFT's {method.upper()} has no"):
        foreign.get("peft").write(turning(method, "fc", **config), tmp_path / "a")


def test_a_vector_over_a_layer_without_a_bias_is_written_where_the_base_says_so(tmp_path: Path) -> None:
    model = nn.ModuleDict({"fc": nn.Linear(8, 16, bias=False)})
    adaptr.save(shaken(adaptr.create(model, "ia3", ["fc"], side="out")), tmp_path / "own.safetensors")
    adaptr.convert(tmp_path / "own.safetensors", tmp_path / "a.safetensors", to="kohya", base=model)
    one, other = (adaptr.load(tmp_path / f"{name}.safetensors", model) for name in ("own", "a"))
    assert torch.allclose(one.tensors["fc:l"], other.tensors["fc:l"])


def test_hashes_are_of_what_is_written(tmp_path: Path) -> None:
    stale = {"sshs_model_hash": "0" * 64, "sshs_legacy_hash": "00000000", "modelspec.hash_sha256": "0x0"}
    written = back(saved(tmp_path, lora(CLIP), {**stale, "ss_network_dim": "2"}), tmp_path)
    import hashlib

    raw = written.read_bytes()
    model = hashlib.sha256(raw[8 + int.from_bytes(raw[:8], "little") :]).hexdigest()
    found = adaptr.inspect(written).metadata
    assert (found["sshs_model_hash"], found["modelspec.hash_sha256"]) == (model, f"0x{model}")
    assert found["sshs_legacy_hash"] == hashlib.sha256(b"").hexdigest()[:8]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["unet.mid_block.resnets.0.conv1", "text_encoder.text_model.encoder.layers.0.mlp.fc1"],
         ["lora_unet_mid_block_resnets_0_conv1", "lora_te_text_model_encoder_layers_0_mlp_fc1"]),
        (["text_encoder.encoder.layers.0.mlp.fc1", "text_encoder_2.encoder.layers.0.mlp.fc1"],
         ["lora_te1_text_model_encoder_layers_0_mlp_fc1", "lora_te2_text_model_encoder_layers_0_mlp_fc1"]),
        (["transformer.double_blocks.0.img_attn.qkv", "text_encoder_2.encoder.block.0.layer.0.SelfAttention.q"],
         ["lora_unet_double_blocks_0_img_attn_qkv", "lora_te3_encoder_block_0_layer_0_SelfAttention_q"]),
        (["transformer.transformer_blocks.0.attn.to_q"], ["lora_transformer_transformer_blocks_0_attn_to_q"]),
        (["model.layers.0.self_attn.q_proj"], ["lycoris_model_layers_0_self_attn_q_proj"]),
    ],
)  # fmt: skip
def test_modules_are_called_as_sd_scripts_calls_them(paths: list[str], names: list[str], tmp_path: Path) -> None:
    foreign.get("kohya").write(made(*paths), tmp_path / "a.safetensors")
    found = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert {key.partition(".")[0] for key in found} == set(names)


def made(*paths: str, **config: object) -> adaptr.Adapter:
    values = {"r": 2, "alpha": 1.0, "dropout": 0.0, "rslora": False, "bias": False, **config}
    targets = {path: adaptr.Target(path, "linear", (3, 4), values) for path in paths}
    tensors = {f"{path}:{name}": torch.ones(size) for path in paths for name, size in (("A", (2, 4)), ("B", (3, 2)))}
    return adaptr.Adapter("lora", values, targets, tensors)


def test_a_scale_over_the_root_of_the_rank_is_an_alpha_over_the_rank(tmp_path: Path) -> None:
    path = "unet.mid_block.resnets.0.time_emb_proj"
    foreign.get("kohya").write(made(path, rslora=True), tmp_path / "a.safetensors")
    found = adaptr.load(tmp_path / "a.safetensors")
    torch.testing.assert_close(found[path].dense(), made(path, rslora=True)[path].dense(), atol=1e-7, rtol=0)


def test_two_modules_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match="one name"):
        foreign.get("kohya").write(made("a.b", "a_b"), tmp_path / "a.safetensors")


def test_a_name_that_would_be_read_as_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match="no name for a module"):
        foreign.get("kohya").write(made("unet.my_own.block"), tmp_path / "a.safetensors")


@pytest.mark.parametrize("method", ["hra", "prompt", "vera"])
def test_a_method_of_no_algorithm_is_refused(method: str, tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match=f"have no `{method}`"):
        foreign.get("kohya").write(made("unet.conv_in").replace(method=method), tmp_path / "a.safetensors")


def test_a_bias_of_lora_is_refused(tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match="no bias"):
        foreign.get("kohya").write(made("unet.conv_in", bias=True), tmp_path / "a.safetensors")


def test_dropout_is_said_to_be_lost(tmp_path: Path) -> None:
    with pytest.raises(e.LossyConversion, match="dropout"):
        foreign.get("kohya").write(made("unet.conv_in", dropout=0.1), tmp_path / "a.safetensors")


def test_a_stack_that_only_adds_is_one_file(tmp_path: Path) -> None:
    base = nn.ModuleDict({"a": nn.Linear(4, 3), "b": nn.Linear(4, 3)}).double()
    tensors = lora("lycoris_a") | {"lycoris_b.diff": torch.randn(3, 4)}
    source = saved(tmp_path, tensors)
    equal(source, back(source, tmp_path, base))


def test_an_artifact_is_in_no_format_of_one_file() -> None:
    assert "kohya" in foreign.choices()
    assert "kohya" not in foreign.packable()


NEW, OLD = "text_encoder.encoder.layers.0.mlp.fc1", "text_encoder.text_model.encoder.layers.0.mlp.fc1"


def test_a_text_encoder_of_transformers_5_gets_the_names_that_readers_know(tmp_path: Path) -> None:
    adaptr.save(one := made(NEW), tmp_path / "a.safetensors")
    report = adaptr.convert(tmp_path / "a.safetensors", tmp_path / "lora.safetensors", to="kohya")
    keys = safetensors.torch.load_file(tmp_path / "lora.safetensors")
    assert {key.partition(".")[0] for key in keys} == {"lora_te_text_model_encoder_layers_0_mlp_fc1"}
    assert report.notes == ()
    again = adaptr.load(tmp_path / "lora.safetensors")
    torch.testing.assert_close(again[NEW].dense(), one[NEW].dense())
    adaptr.convert(tmp_path / "lora.safetensors", tmp_path / "again.safetensors", to="kohya")
    assert safetensors.torch.load_file(tmp_path / "again.safetensors").keys() == keys.keys()
    assert adaptr.load(tmp_path / "again.safetensors").targets.keys() == {NEW}


def test_a_file_of_transformers_5_keeps_its_names_and_that_is_said(tmp_path: Path) -> None:
    file = saved(tmp_path, lora("lora_te_encoder_layers_0_mlp_fc1"))
    report = adaptr.convert(file, tmp_path / "lora.safetensors", to="kohya")
    assert "lora_te_encoder_layers_0_mlp_fc1.alpha" in safetensors.torch.load_file(tmp_path / "lora.safetensors")
    assert "transformers 5" in report.notes[0]
    assert report.as_dict()["notes"] == report.notes


def test_two_names_of_one_layer_of_a_text_encoder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match="one name"):
        foreign.get("kohya").write(made(NEW, OLD), tmp_path / "lora.safetensors")


def test_that_a_language_model_is_read_back_by_its_base_is_said(tmp_path: Path) -> None:
    adaptr.save(made("model.layers.0.self_attn.q_proj"), tmp_path / "a.safetensors")
    report = adaptr.convert(tmp_path / "a.safetensors", tmp_path / "lora.safetensors", to="kohya")
    assert "--base" in report.notes[0]
    with pytest.raises(e.TargetNotFound):
        adaptr.load(tmp_path / "lora.safetensors")
