"""OpenDelta's folders, made here as it names what it inserts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import adaptr
import tiny
from adaptr import errors as e
from adaptr import foreign

AT = "model.layers.0.self_attn.q_proj"


def saved(place: Path, tensors: dict[str, Tensor], kind: str, **more: Any) -> Path:
    place.mkdir(exist_ok=True)
    torch.save(tensors, place / "pytorch_model.bin")
    said = {"delta_type": kind, "opendelta_version": "0.3.2", "backbone_class": "LlamaForCausalLM", **more}
    (place / "config.json").write_text(json.dumps(said))
    return place


def bottleneck(path: str, d: int = 32, m: int = 4) -> dict[str, Tensor]:
    shapes = {"down_proj.weight": (m, d), "down_proj.bias": (m,), "up_proj.weight": (d, m), "up_proj.bias": (d,)}
    return {f"{path}.adapter.modulelist.{name}": torch.randn(shape) for name, shape in shapes.items()}


def test_lora_with_a_head_that_was_trained_too(tmp_path: Path) -> None:
    tensors = {f"{AT}.lora.lora_A": torch.randn(4, 32), f"{AT}.lora.lora_B": torch.randn(32, 4)}
    folder = saved(tmp_path / "a", tensors | {"score.weight": torch.ones(2, 32)}, "lora", lora_alpha=8)
    assert foreign.of(folder).name == "opendelta"
    found = adaptr.load(folder)
    A, B = tensors.values()
    torch.testing.assert_close(found[AT].dense(), 2 * B @ A)
    assert found.replaced_paths == ["score.weight"] or list(found.replaced_paths) == ["score.weight"]


def test_its_adapter_is_behind_its_module(tmp_path: Path) -> None:
    model, at = tiny.model("llama").eval(), "model.layers.0.mlp.down_proj"
    tensors = bottleneck(at)
    found = adaptr.load(saved(tmp_path / "a", tensors, "adapter", non_linearity="relu"), model)
    D, b, U, c = tensors.values()
    x = torch.randn(1, 3, model.get_submodule(at).in_features)
    with torch.no_grad():
        h = model.get_submodule(at)(x)
        with adaptr.attach(model, found):
            y = model.get_submodule(at)(x)
    torch.testing.assert_close(y, h + (h @ D.T + b).relu() @ U.T + c)


def test_a_low_rank_adapter_is_the_product_of_its_vectors(tmp_path: Path) -> None:
    shapes = {
        "down_sampler.W_left": (32, 1), "down_sampler.W_right": (1, 4), "down_sampler.b": (4,),
        "up_sampler.W_left": (4, 1), "up_sampler.W_right": (1, 32), "up_sampler.b": (32,),
    }  # fmt: skip
    tensors = {f"{AT}.low_rank_adapter.{name}": torch.randn(shape) for name, shape in shapes.items()}
    found = adaptr.load(saved(tmp_path / "a", tensors, "low_rank_adapter", low_rank_rank=1))
    left, right = (tensors[f"{AT}.low_rank_adapter.down_sampler.{name}"] for name in ("W_left", "W_right"))
    assert (found.method, found.config["activation"]) == ("houlsby", "gelu_new")
    torch.testing.assert_close(found.at(AT)["D"], (left * right).T)


def test_biases_are_what_they_were_changed_by(tmp_path: Path) -> None:
    model = tiny.biased("bert")
    name = next(name for name, value in model.named_parameters() if name.endswith("dense.bias"))
    after = model.get_parameter(name).detach() + 1
    folder = saved(tmp_path / "a", {name: after}, "bitfit")
    found = adaptr.load(folder, model)
    torch.testing.assert_close(found.at(name.removesuffix(".bias"))["b"], torch.ones_like(after))
    with pytest.raises(e.ConfigMissing, match="what it became"):
        adaptr.load(folder)


def test_a_soft_prompt(tmp_path: Path) -> None:
    rows = torch.randn(3, 32)
    found = adaptr.load(saved(tmp_path / "a", {"encoder.soft_prompt_layer.soft_embeds": rows}, "soft_prompt"))
    assert (found.method, found.config["tokens"]) == ("prompt", 3)
    assert torch.equal(found.tensors[":P"], rows)


@pytest.mark.parametrize(
    ("tensors", "kind", "more", "error", "match"),
    [
        ({}, "compacter", {}, e.Unsupported, "can't read OpenDelta's `compacter`"),
        ({}, "prefix", {}, e.Unsupported, "can't read OpenDelta's `prefix`"),
        ({}, "lora", {}, e.NoAdapterTensors, "no tensors of an adapter"),
        ({f"{AT}.lora.lora_C": torch.ones(1)}, "lora", {}, e.TensorUnknown, "no tensor of OpenDelta's `lora`"),
        (bottleneck("a"), "lora", {}, e.TensorUnknown, "no tensor of OpenDelta's `lora`"),
        ({f"{AT}.lora.lora_A": torch.ones(4, 32)}, "lora", {}, e.TensorAbsent, "has no `lora_B`"),
        (
            {f"{AT}.lora.lora_A": torch.ones(4, 32), f"{AT}.lora.lora_B": torch.ones(32, 3)},
            "lora", {}, e.ConfigConflict, "as the other has rank 4",
        ),
        (
            {f"{AT}.lora.lora_A": torch.ones(4, 32), f"{AT}.lora.lora_B": torch.ones(32, 4)},
            "lora", {"lora_alpha": "x"}, e.ConfigConflict, "wanted a number",
        ),
        (bottleneck("a"), "adapter", {"non_linearity": "leakyrelu"}, e.Unsupported, "non-linearity is `leakyrelu`"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(
    tensors: dict[str, Tensor], kind: str, more: dict[str, Any], error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        adaptr.load(saved(tmp_path / "a", tensors, kind, **more))
