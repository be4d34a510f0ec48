"""llama.cpp's LoRA as it is written: one alpha that gives every layer its scale, and nothing that would be dropped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf as library
import pytest
import torch

import adaptr
import checkpoints
import tiny
from adaptr import errors as e
from adaptr import foreign
from adaptr.adapter import Target, kinds
from adaptr.format import gguf
from adaptr_formats.gguf import binary, facts
from gguf_files import pair, written

UP, DOWN = "model.layers.0.mlp.up_proj", "model.layers.1.mlp.down_proj"
BASED = {"gguf": {"architecture": "qwen2", "heads": 4, "kv_heads": 2, "tied": False}}


def lora(targets: Mapping[str, Mapping[str, Any]], foreign: Mapping[str, Any] = BASED) -> adaptr.Adapter:
    """LoRA at linear layers of shape (6, 8). Values: what their configurations have of their own."""
    torch.manual_seed(0)
    plain = {"r": 2, "alpha": 4.0, "dropout": 0.0, "rslora": False, "bias": False}
    made = {path: Target(path, kinds.LINEAR, (6, 8), {**plain, **own}) for path, own in targets.items()}
    tensors = {}
    for path, target in made.items():
        tensors[f"{path}:A"] = torch.randn(target.config["r"], 8)
        tensors[f"{path}:B"] = torch.randn(6, target.config["r"])
    return adaptr.Adapter("lora", plain, made, tensors, foreign=foreign)


def file_of(adapter: adaptr.Adapter, folder: Path, **how: Any) -> Path:
    foreign.get("gguf").write(adapter, folder / "x.gguf", **how)
    return folder / "x.gguf"


# ---------------------------------------------------------------- against the library and the references


def test_the_library_reads_what_is_written(tmp_path: Path) -> None:
    adapter = lora({UP: {}, DOWN: {}}).replace(name="style", tags=("a", "b"))
    found = library.GGUFReader(file_of(adapter, tmp_path))
    said = {name: field.contents() for name, field in found.fields.items() if not name.startswith("GGUF.")}
    assert said["general.architecture"] == "qwen2"
    assert (said["general.type"], said["adapter.type"], said["adapter.lora.alpha"]) == ("adapter", "lora", 4.0)
    assert (said["general.name"], said["general.tags"]) == ("style", ["a", "b"])
    tensors = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in found.tensors}
    assert torch.equal(tensors["blk.0.ffn_up.weight.lora_a"], adapter.tensors[f"{UP}:A"])
    assert torch.equal(tensors["blk.1.ffn_down.weight.lora_b"], adapter.tensors[f"{DOWN}:B"])


def test_it_is_the_librarys_bytes(tmp_path: Path) -> None:
    values = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 4.0, "a": ["x"], "n": 3}
    theirs = written(tmp_path / "theirs.gguf", pair(), values)
    stored = [(key, ("F32", tuple(value.shape), (value.numpy().tobytes(),))) for key, value in pair().items()]
    said: list[tuple[str, gguf.Value]] = [("general.architecture", "qwen2")]
    for name, value in values.items():
        said.append((name, tuple(value) if isinstance(value, list) else value))  # type: ignore[arg-type]
    with (tmp_path / "ours.gguf").open("wb") as file:
        binary.write(file, said, stored)
    assert (tmp_path / "ours.gguf").read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize("name", ["lora", "lora_qv", "layers", "head_emb"])
def test_the_converters_tensors_are_written_where_it_is_right(name: str, shared: Path, tmp_path: Path) -> None:
    root = shared / "formats-refs"
    adaptr.convert(root / "llama/peft" / name, tmp_path / "x.gguf", to="gguf", base=root / "llama/base")
    found, want = (
        {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in library.GGUFReader(path).tensors}
        for path in (tmp_path / "x.gguf", root / "gguf" / f"{name}-f32.gguf")
    )
    assert found.keys() == want.keys()
    for key, tensor in want.items():
        assert torch.equal(found[key], tensor), key


@pytest.mark.parametrize("name", ["rslora", "patterns"])
def test_what_the_converter_gets_wrong_is_right(name: str, shared: Path, tmp_path: Path) -> None:
    root = shared / "formats-refs"
    adaptr.convert(root / "llama/peft" / name, tmp_path / "x.gguf", to="gguf", base=root / "gguf/base-f32.gguf")
    found, want = adaptr.load(tmp_path / "x.gguf"), adaptr.load(root / "llama/peft" / name)
    for path in want.targets:
        torch.testing.assert_close(found[path].dense(), want[path].dense(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "gemma2", "gemma3", "gpt2", "bloom"])
def test_every_architecture_there_and_back(kind: str, tmp_path: Path) -> None:
    base = checkpoints.saved(kind, tmp_path / "base")
    adapter = checkpoints.randomised(base)
    adaptr.save(adapter, tmp_path / "own.safetensors")
    adaptr.convert(tmp_path / "own.safetensors", tmp_path / "x.gguf", to="gguf", base=base)
    found = adaptr.load(tmp_path / "x.gguf")
    assert {path: target.kind for path, target in found.targets.items()} == {
        path: target.kind for path, target in adapter.targets.items()
    }
    for key, tensor in adapter.tensors.items():
        assert torch.equal(found.tensors[key], tensor), key


def test_an_alora_there_and_back(tmp_path: Path) -> None:
    """llama.cpp wants unsigned numbers of 32 bits, and begins one token too early, which is said."""
    base = checkpoints.saved("qwen2", tmp_path / "base")
    adapter = checkpoints.randomised(base, "alora", invocation=[9, 3])
    adaptr.save(adapter, tmp_path / "own.safetensors")
    with pytest.raises(e.LossyConversion, match="from the one before its invocation on"):
        adaptr.convert(tmp_path / "own.safetensors", tmp_path / "x.gguf", to="gguf", base=base)
    adaptr.convert(tmp_path / "own.safetensors", tmp_path / "x.gguf", to="gguf", base=base, lossy=True)
    field = library.GGUFReader(tmp_path / "x.gguf").fields["adapter.alora.invocation_tokens"]
    assert (field.contents(), field.types[-1]) == ([9, 3], library.GGUFValueType.UINT32)
    found = adaptr.load(tmp_path / "x.gguf")
    assert (found.method, found.config["invocation"]) == ("alora", [9, 3])
    for key, tensor in adapter.tensors.items():
        assert torch.equal(found.tensors[key], tensor), key


# ---------------------------------------------------------------- scales


def test_the_alpha_is_that_of_most_layers_and_the_others_are_folded(tmp_path: Path) -> None:
    other = "model.layers.2.mlp.up_proj"
    adapter = lora({UP: {"alpha": 3.0}, DOWN: {}, other: {"r": 4}})
    path = file_of(adapter, tmp_path)
    assert gguf.open_header(path).metadata["adapter.lora.alpha"] == 4.0
    found = adaptr.load(path)
    assert torch.equal(found.at(DOWN)["B"], adapter.tensors[f"{DOWN}:B"])
    assert torch.equal(found.at(UP)["B"], (adapter.tensors[f"{UP}:B"].double() * 0.75).float())
    for target in adapter.targets:
        torch.testing.assert_close(found[target].dense(), adapter[target].dense(), atol=1e-6, rtol=1e-6)


def test_rslora_of_one_rank_changes_the_alpha_alone(tmp_path: Path) -> None:
    adapter = lora({UP: {"rslora": True}, DOWN: {"rslora": True}})
    path = file_of(adapter, tmp_path)
    assert gguf.open_header(path).metadata["adapter.lora.alpha"] == pytest.approx(4 * 2**0.5)
    assert torch.equal(adaptr.load(path).at(UP)["B"], adapter.tensors[f"{UP}:B"])


def test_a_scale_of_0_is_not_llama_cpps_alpha_of_0(tmp_path: Path) -> None:
    adapter = lora({UP: {"alpha": 0.0}})
    path = file_of(adapter, tmp_path)
    assert gguf.open_header(path).metadata["adapter.lora.alpha"] == 1.0
    assert not adaptr.load(path)[UP].dense().any()


def test_halves_stay_halves_and_fp64_is_said_to_be_lost(tmp_path: Path) -> None:
    for dtype, stored in ((torch.float16, "F16"), (torch.bfloat16, "BF16")):
        adapter = lora({UP: {}})
        adapter = adapter.replace(tensors={key: value.to(dtype) for key, value in adapter.tensors.items()})
        path = file_of(adapter, tmp_path, force=True)
        assert {entry.dtype for entry in gguf.open_header(path).entries.values()} == {stored}
        assert torch.equal(adaptr.load(path).at(UP)["B"], adapter.tensors[f"{UP}:B"])
    wide = lora({UP: {}})
    wide = wide.replace(tensors={key: value.double() for key, value in wide.tensors.items()})
    with pytest.raises(e.LossyConversion, match="precision of fp64"):
        file_of(wide, tmp_path, force=True)
    assert adaptr.load(file_of(wide, tmp_path, force=True, lossy=True)).at(UP)["B"].dtype == torch.float32


def test_one_rate_of_dropout_is_kept_and_several_are_said_to_be_lost(tmp_path: Path) -> None:
    adapter = lora({UP: {"dropout": 0.05}, DOWN: {"dropout": 0.05}})
    assert adaptr.load(file_of(adapter, tmp_path)).targets[UP].config["dropout"] == 0.05
    with pytest.raises(e.LossyConversion, match="dropout rates"):
        file_of(lora({UP: {"dropout": 0.05}, DOWN: {}}), tmp_path, force=True)


def test_a_rate_that_is_none_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "x.gguf", pair(), {"adaptr.about": "{}", "adaptr.dropout": "2"})
    with pytest.raises(e.MetadataInvalid, match="wanted a rate"):
        adaptr.load(path)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"method": "dora"}, "LoRA and aLoRA alone, and `dora` is neither"),
        ({"targets": {UP: Target(UP, kinds.LINEAR, (6, 8), {"bias": True})}}, "has a bias"),
        ({"tensors": {"lm_head.weight:=": torch.ones(2, 2)}}, "`lm_head.weight` is replaced as a whole"),
    ],
)
def test_what_llama_cpp_has_no_place_for_is_refused(change: dict[str, Any], match: str, tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match=match):
        file_of(lora({UP: {}}).replace(**change), tmp_path, lossy=True)
    assert not (tmp_path / "x.gguf").exists()


@pytest.mark.parametrize("name", ["dora", "bias", "mts"])
def test_the_references_that_are_no_plain_lora_are_refused(name: str, shared: Path, tmp_path: Path) -> None:
    root = shared / "formats-refs/llama"
    with pytest.raises(e.Unsupported, match=r"dora|has a bias|as a whole"):
        adaptr.convert(root / "peft" / name, tmp_path / "x.gguf", to="gguf", base=root / "base", lossy=True)


@pytest.mark.parametrize("path", ["model.layers.0.mlp.other", "model.vision_tower.layers.0.mlp.up_proj", "x"])
def test_a_layer_that_llama_cpp_has_no_name_for_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match=r"no place at which llama\.cpp loads a LoRA of `qwen2`"):
        file_of(lora({path: {}}), tmp_path)


def test_two_paths_of_one_layer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(e.Unsupported, match=r"are both `blk\.0\.ffn_up`"):
        file_of(lora({UP: {}, UP.removeprefix("model."): {}}), tmp_path)


def test_a_head_that_is_the_embeddings_is_refused(tmp_path: Path) -> None:
    """llama.cpp has no such matrix, and aborts on a LoRA of the embeddings that it uses for both."""
    tied = {"gguf": {**BASED["gguf"], "tied": True}}
    with pytest.raises(e.Unsupported, match="the base's head is its embeddings"):
        file_of(lora({"lm_head": {}}, tied), tmp_path)


@pytest.mark.parametrize("kept", [{}, {"gguf": {"heads": 4}}, {"gguf": 3}])
def test_the_base_is_asked_for(kept: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(e.ConfigMissing, match="give the base"):
        file_of(lora({UP: {}}, kept), tmp_path)


def test_a_base_that_llama_cpp_is_not_known_to_lay_out_is_refused() -> None:
    with pytest.raises(e.Unsupported, match="`gpt_neox`"):
        facts.of_model(tiny.MAKERS["neox"]())


def test_the_heads_of_falcon_are_those_of_its_fused_projection() -> None:
    import transformers as t

    for kv, new, multi in ((2, True, True), (1, False, True), (4, False, False)):
        config = t.FalconConfig(num_attention_heads=4, num_kv_heads=2, new_decoder_architecture=new, multi_query=multi)
        model = torch.nn.Module()
        model.config = config  # type: ignore[assignment]
        assert facts.of_model(model).heads == (4, kv)


# ---------------------------------------------------------------- what is told


def test_nothing_of_this_machine_is_written(tmp_path: Path) -> None:
    base = checkpoints.saved("llama", tmp_path / "somebody" / "base")
    adaptr.save(checkpoints.randomised(base), tmp_path / "own.safetensors")
    adaptr.convert(tmp_path / "own.safetensors", tmp_path / "x.gguf", to="gguf", base=base)
    raw = (tmp_path / "x.gguf").read_bytes()
    assert b"somebody" not in raw
    assert str(tmp_path).encode() not in raw


@pytest.mark.parametrize(("base", "told"), [("acme/base", True), ("/home/somebody/base", False), ("base", False)])
def test_a_repository_of_the_hub_is_the_base_and_a_path_is_not(base: str, told: bool, tmp_path: Path) -> None:
    path = file_of(lora({UP: {}}).replace(base=adaptr.Base(id=base, revision="v1")), tmp_path)
    found = adaptr.load(path).base
    assert (found.id, found.revision) == ((base, "v1") if told else ("", ""))
    assert told == (b"base_model" in path.read_bytes())


def test_what_an_adapter_is_for_comes_back(tmp_path: Path) -> None:
    said = {"adapter.lora.task_name": "tidy", "adapter.lora.prompt_prefix": "tidy: "}
    source = written(tmp_path / "theirs.gguf", pair(), {**said, "adaptr.about": "{}"})
    adaptr.convert(source, tmp_path / "own.safetensors")
    adaptr.convert(tmp_path / "own.safetensors", tmp_path / "back.gguf", to="gguf")
    found = gguf.open_header(tmp_path / "back.gguf").metadata
    assert {name: found[name] for name in said} == said


def test_its_own_file_is_replaced_by_force_and_llama_cpps_is_not(tmp_path: Path) -> None:
    path = file_of(lora({UP: {}}), tmp_path)
    with pytest.raises(e.OutputExists):
        file_of(lora({DOWN: {}}), tmp_path)
    assert list(adaptr.load(file_of(lora({DOWN: {}}), tmp_path, force=True)).targets) == [DOWN]
    written(path, pair())
    with pytest.raises(e.OutputExists, match="even `force=True`"):
        file_of(lora({UP: {}}), tmp_path, force=True)
