"""Adapters of image models merged into pipelines and files of one, whatever library named the modules of either."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import adaptr
from adaptr.checkpoint import open_checkpoint
from adaptr.errors import (
    AlreadyAttached,
    CheckpointError,
    NothingChanged,
    OutputExists,
    TargetMismatch,
    TargetNotFound,
    Unsupported,
    UsageError,
)
from image_bases import Tensors, one_file, pipeline, read

#: What a published file of one calls SDXL's parts, and OpenCLIP the modules of a layer.
LDM = {"unet.": "model.diffusion_model.", "text_encoder.": "conditioner.embedders.0.transformer."}
LAYER = "conditioner.embedders.1.model.transformer.resblocks.0"
CLIP = {"self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
TWO = "text_encoder_2.text_model.encoder.layers.0"
Q, K, V = (f"{TWO}.self_attn.{one}_proj.weight" for one in "qkv")
FLUX = "transformer.double_blocks.0.img_attn.qkv.weight"


def base_of(refs: Path) -> Tensors:
    return {name: tensor.float() for name, tensor in load_file(refs / "base.safetensors").items()}


def moved_as_expected(after: Tensors, before: Tensors, refs: Path) -> None:
    expected = load_file(refs / "expected.safetensors")
    assert expected.keys() <= before.keys()
    for name, tensor in before.items():
        wanted = expected.get(name, torch.zeros(1)).float()
        torch.testing.assert_close(after[name] - tensor, wanted.expand_as(tensor), atol=1e-6, rtol=0)


def published(before: Tensors) -> Tensors:
    """SDXL's tensors as its file of one has them."""
    found = {f"{LAYER}.attn.in_proj_weight": torch.cat([before[Q], before[K], before[V]])}
    found |= {f"{LAYER}.{open_clip}.weight": before[f"{TWO}.{name}.weight"] for name, open_clip in CLIP.items()}
    for old, new in LDM.items():
        found |= {new + name.removeprefix(old): tensor for name, tensor in before.items() if name.startswith(old)}
    return found


def as_before(found: Tensors) -> Tensors:
    """The same back."""
    after = dict(zip((Q, K, V), found[f"{LAYER}.attn.in_proj_weight"].chunk(3), strict=True))
    after |= {f"{TWO}.{name}.weight": found[f"{LAYER}.{open_clip}.weight"] for name, open_clip in CLIP.items()}
    for old, new in LDM.items():
        after |= {old + name.removeprefix(new): tensor for name, tensor in found.items() if name.startswith(new)}
    return after


def test_kohyas_lora_into_a_pipeline_and_back(shared: Path, tmp_path: Path) -> None:
    refs = shared / "formats-refs" / "kohya" / "sd15"
    base = pipeline(tmp_path / "sd15", before := base_of(refs))
    report = adaptr.merge(base, refs / "lora.safetensors", tmp_path / "out")
    assert report.targets == len(load_file(refs / "expected.safetensors"))
    assert (tmp_path / "out" / "scheduler" / "scheduler_config.json").is_file()
    assert (tmp_path / "out" / "LICENSE.md").read_text() == "free"
    moved_as_expected(read(tmp_path / "out"), before, refs)
    assert adaptr.verify(tmp_path / "out", base, refs / "lora.safetensors").exact
    adaptr.unmerge(tmp_path / "out", tmp_path / "back")
    files = [file for file in base.rglob("*") if file.is_file()]
    assert all((tmp_path / "back" / f.relative_to(base)).read_bytes() == f.read_bytes() for f in files)


def test_sdxl_in_one_file_by_the_names_that_it_was_published_with(shared: Path, tmp_path: Path) -> None:
    refs = shared / "formats-refs" / "kohya" / "sdxl"
    base = one_file(tmp_path / "sdxl.safetensors", published(before := base_of(refs)))
    adaptr.merge(base, refs / "lora.safetensors", tmp_path / "out")
    moved_as_expected(as_before(load_file(tmp_path / "out" / "sdxl.safetensors")), before, refs)
    assert adaptr.verify(tmp_path / "out", base, refs / "lora.safetensors").exact
    adaptr.unmerge(tmp_path / "out", tmp_path / "back")
    assert (tmp_path / "back" / "sdxl.safetensors").read_bytes() == base.read_bytes()


def test_one_file_becomes_one_file_and_back(shared: Path, tmp_path: Path) -> None:
    refs = shared / "formats-refs" / "kohya" / "sdxl"
    base, out = (
        one_file(tmp_path / "sdxl.safetensors", published(before := base_of(refs))),
        tmp_path / "out.safetensors",
    )
    adaptr.merge(base, refs / "lora.safetensors", out)
    moved_as_expected(as_before(load_file(out)), before, refs)
    assert adaptr.verify(out, base, refs / "lora.safetensors").exact
    with pytest.raises(AlreadyAttached):
        adaptr.merge(out, refs / "lora.safetensors", tmp_path / "twice.safetensors")
    with pytest.raises(OutputExists):
        adaptr.merge(base, refs / "lora.safetensors", out)
    adaptr.merge(base, refs / "lora.safetensors", out, force=True)
    adaptr.unmerge(out, tmp_path / "back.safetensors")
    assert (tmp_path / "back.safetensors").read_bytes() == base.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "back.safetensors", "out.safetensors", "out.safetensors.adaptr", "sdxl.safetensors",
    ]  # fmt: skip
    out.write_bytes(base.read_bytes())
    with pytest.raises(OutputExists):
        adaptr.merge(base, refs / "lora.safetensors", out, force=True)


def test_a_folder_becomes_a_folder_and_is_called_so(tmp_path: Path) -> None:
    base = pipeline(tmp_path / "base", {"unet.conv_in.weight": torch.randn(4, 4)})
    model = torch.nn.ModuleDict({"unet": torch.nn.ModuleDict({"conv_in": torch.nn.Linear(4, 4)})})
    with pytest.raises(UsageError, match=r"called as a file.*-o .*out`"):
        adaptr.merge(base, adaptr.create(model, "lora", ["unet.conv_in"]), tmp_path / "out.safetensors")


def test_merges_of_one_file_come_out_in_turn(shared: Path, tmp_path: Path) -> None:
    refs = shared / "formats-refs" / "kohya" / "sdxl"
    base, lora = one_file(tmp_path / "sdxl.safetensors", published(base_of(refs))), refs / "lora.safetensors"
    path = "unet.middle_block.1.proj_in"
    part = only_of(lora, path, tmp_path)
    adaptr.merge(base, part, tmp_path / "one.safetensors")
    adaptr.merge(tmp_path / "one.safetensors", lora, tmp_path / "two.safetensors")
    adaptr.unmerge(tmp_path / "two.safetensors", tmp_path / "one-again.safetensors")
    adaptr.unmerge(tmp_path / "one-again.safetensors", tmp_path / "back.safetensors")
    assert (tmp_path / "back.safetensors").read_bytes() == base.read_bytes()
    names = [node.name for node in adaptr.log(tmp_path / "two.safetensors").nodes]
    assert len(names) == 5


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", ""])
def test_flux_in_one_file_with_the_encoders_of_comfyui_or_alone(shared: Path, tmp_path: Path, prefix: str) -> None:
    refs = shared / "formats-refs" / "kohya" / "flux"
    before, old = base_of(refs), {"transformer.": prefix, "text_encoder.": "text_encoders.clip_l.transformer."}
    names = {name: old[start] + name.removeprefix(start) for name in before for start in old if name.startswith(start)}
    base = one_file(tmp_path / "flux.safetensors", {names[name]: tensor for name, tensor in before.items()})
    adaptr.merge(base, refs / "lora.safetensors", tmp_path / "out")
    found = load_file(tmp_path / "out" / "flux.safetensors")
    moved_as_expected({name: found[names[name]] for name in before}, before, refs)


def test_a_fused_module_goes_into_the_three_that_diffusers_has(shared: Path, tmp_path: Path) -> None:
    refs = shared / "formats-refs" / "kohya" / "flux"
    before = {name: tensor for name, tensor in base_of(refs).items() if "img_attn.qkv" in name}
    q, k, v = (f"transformer.transformer_blocks.0.attn.to_{one}.weight" for one in "qkv")
    base = pipeline(tmp_path / "flux", dict(zip((q, k, v), before[FLUX].chunk(3), strict=True)))
    only = only_of(refs / "lora.safetensors", FLUX.removesuffix(".weight"), tmp_path)
    report = adaptr.merge(base, only, tmp_path / "out")
    found = read(tmp_path / "out")
    expected = load_file(refs / "expected.safetensors")[FLUX].float()
    torch.testing.assert_close(torch.cat([found[q], found[k], found[v]]) - before[FLUX], expected, atol=1e-6, rtol=0)
    assert (report.targets, report.tensors) == (1, 3)
    assert adaptr.verify(tmp_path / "out", base, only).exact
    adaptr.unmerge(tmp_path / "out", tmp_path / "back")
    part = Path("transformer", "diffusion_pytorch_model.safetensors")
    assert (tmp_path / "back" / part).read_bytes() == (base / part).read_bytes()


def test_strengths_by_block(shared: Path, tmp_path: Path) -> None:
    refs = shared / "formats-refs" / "kohya" / "sd15"
    base = pipeline(tmp_path / "sd15", before := base_of(refs))
    weights = {"*": 1.0, "unet.mid_block.*": 0.5, "text_encoder*": 0.0}
    report = adaptr.merge(base, [(refs / "lora.safetensors", weights)], tmp_path / "out")
    found, expected = read(tmp_path / "out"), load_file(refs / "expected.safetensors")
    for name, delta in expected.items():
        strength = 0.0 if name.startswith("text") else 0.5 if "mid_block" in name else 1.0
        torch.testing.assert_close(found[name] - before[name], strength * delta.float(), atol=1e-6, rtol=0)
    assert report.tensors == sum(not name.startswith("text") for name in expected)
    assert adaptr.verify(tmp_path / "out", base, [(refs / "lora.safetensors", weights)]).exact
    adaptr.unmerge(tmp_path / "out", tmp_path / "back")
    assert read(tmp_path / "back").keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in read(tmp_path / "back").items())


def test_a_pattern_that_matches_nothing_is_a_slip_of_the_pen(shared: Path, tmp_path: Path) -> None:
    refs = shared / "formats-refs" / "kohya" / "sd15"
    base = pipeline(tmp_path / "sd15", base_of(refs))
    with pytest.raises(UsageError, match=r"unet\.down_block\.\*"):
        adaptr.merge(base, [(refs / "lora.safetensors", {"*": 1.0, "unet.down_block.*": 0.5})], tmp_path / "out")
    with pytest.raises(NothingChanged):
        adaptr.merge(base, [(refs / "lora.safetensors", {"*": 0.0})], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def only_of(source: Path, path: str, folder: Path) -> Path:
    """An adapter with one of the targets."""
    adapter = adaptr.load(source)
    tensors = {key: adapter.tensors[key] for key in adapter.tensors if key.startswith(f"{path}:")}
    part = adapter.replace(targets={path: adapter.targets[path]}, tensors=tensors, foreign={})
    adaptr.save(part, folder / "part.safetensors")
    return folder / "part.safetensors"


def test_published_names_of_encoders_fit_a_pipeline_of_transformers_5(shared: Path, tmp_path: Path) -> None:
    refs = shared / "formats-refs" / "kohya" / "sd15"
    before = base_of(refs)
    short = {name: name.replace(".text_model.", ".") for name in before}
    base = pipeline(tmp_path / "sd15", {short[name]: tensor for name, tensor in before.items()})
    adaptr.merge(base, refs / "lora.safetensors", tmp_path / "out")
    found = read(tmp_path / "out")
    moved_as_expected({name: found[short[name]] for name in before}, before, refs)


def test_a_method_whose_rows_can_not_be_cut_is_refused(tmp_path: Path) -> None:
    names = [f"transformer.transformer_blocks.0.attn.to_{one}" for one in "qkv"]
    base = pipeline(tmp_path / "flux", {f"{name}.weight": torch.randn(8, 8) for name in names})
    model = torch.nn.ModuleDict({"transformer": torch.nn.ModuleDict({"double_blocks": torch.nn.ModuleList([block()])})})
    adapter = adaptr.create(model, "lokr", ["transformer.double_blocks.0.img_attn.qkv"], r=2)
    with pytest.raises(Unsupported, match=r"can't be cut so.*--method lora"):
        adaptr.merge(base, adapter, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def block() -> torch.nn.Module:
    return torch.nn.ModuleDict({"img_attn": torch.nn.ModuleDict({"qkv": torch.nn.Linear(8, 24)})})


def test_a_part_that_the_base_lacks_is_named(shared: Path, tmp_path: Path) -> None:
    refs = shared / "formats-refs" / "kohya" / "sd15"
    unet = {name: tensor for name, tensor in base_of(refs).items() if name.startswith("unet.")}
    with pytest.raises(TargetNotFound, match=r"text_encoder\."):
        adaptr.merge(pipeline(tmp_path / "sd15", unet), refs / "lora.safetensors", tmp_path / "out")


@pytest.mark.parametrize("folder", [True, False])
def test_a_parameter_that_the_base_lacks_is_put_into_none_of_its_files(folder: bool, tmp_path: Path) -> None:
    name = "unet.conv_in.weight" if folder else "model.diffusion_model.input_blocks.0.0.weight"
    base = (pipeline if folder else one_file)(tmp_path / "base", {name: torch.randn(4, 4)})
    model = torch.nn.ModuleDict({"unet": torch.nn.ModuleDict({"conv_in": torch.nn.Linear(4, 4)})})
    made = adaptr.create(model, "lora", ["unet.conv_in"])
    made = made.replace(tensors={**made.tensors, "unet.norm.weight:=": torch.randn(4)})
    with pytest.raises(TargetNotFound, match=r"unet\.norm\.weight"):
        adaptr.merge(base, made, tmp_path / "out")


@pytest.mark.parametrize("shape", [(), (9,), (3, 3, 3), (2, 9)])
def test_what_should_hold_a_part_and_has_another_shape_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    base = one_file(tmp_path / "base.safetensors", {"single_blocks.0.linear1.weight": torch.randn(shape)})
    layers = torch.nn.ModuleDict({"single_transformer_blocks": torch.nn.ModuleList([single_block()])})
    model = torch.nn.ModuleDict({"transformer": layers})
    adapter = adaptr.create(model, "lora", ["transformer.single_transformer_blocks.0.proj_mlp"], r=1)
    with pytest.raises((TargetNotFound, TargetMismatch)):
        adaptr.merge(base, adapter, tmp_path / "out")


@pytest.mark.parametrize("shape", [(), (9,), (3, 3, 3), (2, 9)])
def test_parts_of_another_shape_are_none_of_a_joined_module(shape: tuple[int, ...], tmp_path: Path) -> None:
    names = [f"transformer.transformer_blocks.0.attn.to_{one}.weight" for one in "qkv"]
    base = pipeline(tmp_path / "flux", {name: torch.randn(shape) for name in names})
    model = torch.nn.ModuleDict({"transformer": torch.nn.ModuleDict({"double_blocks": torch.nn.ModuleList([block()])})})
    with pytest.raises((TargetNotFound, TargetMismatch)):
        adaptr.merge(base, adaptr.create(model, "lora", ["img_attn.qkv"]), tmp_path / "out")


def single_block() -> torch.nn.Module:
    return torch.nn.ModuleDict({"proj_mlp": torch.nn.Linear(3, 12)})


def test_components_of_a_pipeline_lie_in_it(tmp_path: Path) -> None:
    base = pipeline(tmp_path / "base", {"unet.conv_in.weight": torch.randn(4, 4)})
    (base / "model_index.json").write_text(json.dumps({"../unet": ["diffusers", "UNet2DConditionModel"]}))
    with pytest.raises(CheckpointError, match="outside its folder"):
        open_checkpoint(base)


def test_a_pipeline_of_pickles_is_refused(tmp_path: Path) -> None:
    base = pipeline(tmp_path / "base", {"unet.conv_in.weight": torch.randn(4, 4)})
    file = base / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))
    with pytest.raises(CheckpointError, match="no component"):
        open_checkpoint(base)


def test_of_two_variants_the_whole_one_counts(tmp_path: Path) -> None:
    base = pipeline(tmp_path / "base", {"unet.conv_in.weight": torch.randn(4, 4)})
    file = base / "unet" / "diffusion_pytorch_model.safetensors"
    half = file.with_name("diffusion_pytorch_model.fp16.safetensors")
    half.write_bytes(file.read_bytes())
    assert [shard.name for shard in open_checkpoint(base).shards] == ["unet/diffusion_pytorch_model.safetensors"]
    file.unlink()
    assert [shard.name for shard in open_checkpoint(base).shards] == [f"unet/{half.name}"]


def test_shards_of_a_component(tmp_path: Path) -> None:
    base = pipeline(tmp_path / "base", {"unet.a.weight": torch.randn(4, 4)})
    file = base / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_name("one.safetensors"))
    index = base / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a.weight": "one.safetensors"}}))
    assert [*open_checkpoint(base).tensors] == ["unet.a.weight"]
    index.write_text(json.dumps({"weight_map": {"a.weight": "one.safetensors", "b.weight": "one.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"unet\.b\.weight"):
        open_checkpoint(base)
