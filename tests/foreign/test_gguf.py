"""llama.cpp's LoRA as an adapter: scales, types and what a file says, as llama.cpp has them, or a refusal by name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gguf as library
import pytest
import torch

import adaptr
from adaptr import errors as e
from adaptr import foreign
from gguf_files import LAYER, loaded, pair, quantised, written

REFERENCES = ("head_emb", "layers", "lora", "lora_qv")


#: Files of the converter are warned of; who asks for the warning finds it all the same.
pytestmark = pytest.mark.filterwarnings("ignore::adaptr.errors.TrainedOtherwise")


# ---------------------------------------------------------------- genuine files


@pytest.mark.parametrize("base", ["gguf/base-f32.gguf", "llama/base"])
@pytest.mark.parametrize("name", REFERENCES)
def test_a_converted_file_is_the_adapter_that_it_came_from(name: str, base: str, shared: Path) -> None:
    root = shared / "formats-refs"
    found = adaptr.load(root / "gguf" / f"{name}-f32.gguf", base=root / base)
    want = adaptr.load(root / "llama/peft" / name, base=root / "llama/base")
    assert set(found.targets) == set(want.targets)
    for path in want.targets:
        assert (found[path].dense() - want[path].dense()).abs().max() <= 1e-6


def test_half_precision_is_read_as_it_is(shared: Path) -> None:
    root = shared / "formats-refs"
    found = adaptr.load(root / "gguf/lora-f16.gguf", base=root / "llama/base")
    want = adaptr.load(root / "llama/peft/lora", base=root / "llama/base")
    assert {tensor.dtype for tensor in found.tensors.values()} == {torch.float16}
    for key, tensor in want.tensors.items():
        assert torch.equal(found.tensors[key], tensor.half())


@pytest.mark.parametrize(("name", "said"), [("rslora", "rsLoRA"), ("patterns", r"ranks differ \(2, 4, 6\)")])
def test_what_the_converter_left_out_is_read_as_the_file_says_and_warned_of(name: str, said: str, shared: Path) -> None:
    """alpha / r, the rank of each layer its own, which is what llama.cpp computes and not what was trained."""
    root = shared / "formats-refs"
    with pytest.warns(e.TrainedOtherwise, match=said):
        found = adaptr.load(root / "gguf" / f"{name}-f32.gguf", base=root / "llama/base")
    trained = adaptr.load(root / "llama/peft" / name, base=root / "llama/base")
    alpha = trained.config["alpha"]
    for path, target in found.targets.items():
        r = target.config["r"]
        torch.testing.assert_close(found.at(path)["B"], trained.at(path)["B"])
        assert (target.config["alpha"], target.config["rslora"]) == (alpha, False)
        assert r == trained.targets[path].config["r"]


# ---------------------------------------------------------------- scales, factors, types


def test_the_scale_is_alpha_over_the_rank_of_each_layer(tmp_path: Path) -> None:
    other = "blk.1.ffn_up.weight"
    found = loaded(tmp_path, pair() | pair(other, r=4))
    assert [target.config["r"] for target in found.targets.values()] == [2, 4]
    for name, path in ((LAYER, "model.layers.0.mlp.up_proj"), (other, "model.layers.1.mlp.up_proj")):
        a, b = (pair(other, r=4) | pair())[f"{name}.lora_a"], (pair(other, r=4) | pair())[f"{name}.lora_b"]
        torch.testing.assert_close(found[path].dense(), 4.0 / len(a) * b @ a)


@pytest.mark.parametrize("alpha", [None, 0.0])
def test_without_an_alpha_the_scale_is_1_as_llama_cpp_has_it(alpha: float | None, tmp_path: Path) -> None:
    found = loaded(tmp_path, pair(), **{"adapter.lora.alpha": alpha})
    assert found.config["alpha"] == found.config["r"] == 2


def test_embeddings_are_turned_over(tmp_path: Path) -> None:
    a, b = torch.randn(9, 2), torch.randn(6, 2)
    found = loaded(tmp_path, {"token_embd.weight.lora_a": a, "token_embd.weight.lora_b": b})
    assert found.targets["model.embed_tokens"].shape == (6, 9)
    torch.testing.assert_close(found["model.embed_tokens"].dense(), 2.0 * b @ a.T)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "BF16"])
def test_quantised_tensors_are_what_the_library_makes_of_them(kind: str, tmp_path: Path) -> None:
    factors = pair(out=32, into=64, r=32)
    file = quantised(tmp_path / "x.gguf", factors, kind)
    found = adaptr.load(file)
    for side, name in (("a", "A"), ("b", "B")):
        code = library.GGMLQuantizationType[kind]
        tensor = factors[f"{LAYER}.lora_{side}"].numpy()
        want = torch.from_numpy(library.quants.dequantize(library.quants.quantize(tensor, code), code))
        assert torch.equal(found.at("model.layers.0.mlp.up_proj")[name].float(), want)
    assert adaptr.inspect(file).dtypes == {kind: 2}


def test_quantised_tensors_are_told_of_and_turned(tmp_path: Path) -> None:
    """Embeddings of quantised blocks are turned over after they are floats."""
    factors = {"token_embd.weight.lora_a": torch.randn(9, 32), "token_embd.weight.lora_b": torch.randn(6, 32)}
    with pytest.warns(e.TrainedOtherwise, match=r"2 tensors are Q8_0: they are read as the floats"):
        found = adaptr.load(quantised(tmp_path / "x.gguf", factors, "Q8_0"))
    assert (found.at("model.embed_tokens")["A"].T - factors["token_embd.weight.lora_a"]).abs().max() < 0.02


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = adaptr.load(quantised(tmp_path / "x.gguf", pair(out=32, into=64, r=32), "Q8_0"))
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(e.MissingExtra, match=r"tensors of the type Q8_0.*adaptr\[gguf\]"):
        dict(found.tensors)


@pytest.mark.parametrize(
    ("tensors", "error", "match"),
    [
        ({f"{LAYER}.lora_a": torch.ones(2, 8)}, e.TensorAbsent, "one factor of two"),
        (pair() | {"blk.0.ffn_up.bias": torch.ones(6)}, e.TensorUnknown, "no factor of a LoRA"),
        (pair() | {f"{LAYER}.lora_b": torch.ones(6, 3)}, e.ConfigConflict, "don't belong together"),
        (pair() | {f"{LAYER}.lora_a": torch.ones(2, 2, 8)}, e.ConfigConflict, "don't belong together"),
        ({key: value.int() for key, value in pair().items()}, e.Unsupported, "whole numbers"),
        ({}, e.NoAdapterTensors, "no tensors"),
    ],
)
def test_tensors_that_are_no_lora_are_refused(
    tensors: dict[str, torch.Tensor], error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        loaded(tmp_path, tensors)


def test_norms_beside_are_passed_over_as_llama_cpp_does_and_said(tmp_path: Path) -> None:
    with pytest.warns(e.WeightsIgnored, match=r"whole norms \(blk\.0\.attn_norm\.weight\)"):
        found = loaded(tmp_path, pair() | {"blk.0.attn_norm.weight": torch.ones(8)})
    assert len(found.tensors) == 2


@pytest.mark.parametrize(
    ("said", "error", "match"),
    [
        ({"adapter.lora.alpha": "4"}, e.ConfigConflict, "wanted a float"),
        ({"adapter.lora.alpha": 4}, e.ConfigConflict, "wanted a float"),
        ({"adapter.alora.invocation_tokens": "1"}, e.MetadataInvalid, "wanted ids of tokens"),
        ({"adapter.alora.invocation_tokens": ["1"]}, e.MetadataInvalid, "wanted ids of tokens"),
        ({"adapter.alora.invocation_tokens": [1] * 300}, e.MetadataInvalid, "wanted ids of tokens"),
        ({"adaptr.about": "{"}, e.ForeignError, "not JSON"),
        ({"qwen2.attention.head_count": "x"}, e.MetadataInvalid, "wanted a count"),
    ],
)
def test_values_that_are_none_are_refused(
    said: dict[str, Any], error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        loaded(tmp_path, pair(), **said)


# ---------------------------------------------------------------- what a file says, and whose it is


def test_what_a_file_says_of_itself_and_of_its_base(tmp_path: Path) -> None:
    said = {"general.name": "style", "general.license": "mit", "general.tags": ["a", "b"],
            "general.base_model.0.name": "Home/Somebody/Base", "general.base_model.0.repo_url":
            "https://huggingface.co/acme/base"}  # fmt: skip
    file = written(tmp_path / "x.gguf", pair(), said)
    found = adaptr.load(file)
    assert (found.name, found.license, found.tags, found.base.id) == ("style", "mit", ("a", "b"), "acme/base")
    assert adaptr.inspect(file).metadata["general.tags"] == "a, b"
    adaptr.convert(file, tmp_path / "own.safetensors")
    assert b"Somebody" not in (tmp_path / "own.safetensors").read_bytes()


@pytest.mark.parametrize("url", ["https://huggingface.co//home/somebody/base", "https://huggingface.co/a/b/c", "x"])
def test_a_path_is_no_base(url: str, tmp_path: Path) -> None:
    assert loaded(tmp_path, pair(), **{"general.base_model.0.repo_url": url}).base.id == ""


def test_a_model_is_no_adapter(tmp_path: Path) -> None:
    file = written(tmp_path / "x.gguf", {}, {"general.type": "model"})
    with pytest.raises(e.UnknownFormat, match=r"a GGUF file .* that holds no LoRA"):
        adaptr.load(file)


def test_the_one_adapter_of_a_folder_is_found(tmp_path: Path) -> None:
    written(tmp_path / "x.gguf", pair())
    written(tmp_path / "model.gguf", {}, {"general.type": "model"})
    assert adaptr.load(tmp_path).source.endswith("x.gguf")
    written(tmp_path / "y.gguf", pair())
    assert not foreign.get("gguf").detect(tmp_path)


def test_a_base_of_no_model_is_refused(tmp_path: Path) -> None:
    base = written(tmp_path / "model.gguf", {}, {"general.type": "model"})
    with pytest.raises(e.CheckpointError, match=r"says nothing of qwen2\.block_count"):
        adaptr.load(written(tmp_path / "x.gguf", pair()), base=base)


def test_there_and_back_by_way_of_peft(shared: Path, tmp_path: Path) -> None:
    root = shared / "formats-refs"
    adaptr.convert(root / "gguf/lora-f32.gguf", tmp_path / "peft", to="peft", base=root / "gguf/base-f32.gguf")
    found, want = adaptr.load(tmp_path / "peft"), adaptr.load(root / "llama/peft/lora")
    for path in want.targets:
        assert torch.equal(found[path].dense(), want[path].dense())
