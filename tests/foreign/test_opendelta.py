"""OpenDelta's folders, made here as it names what it inserts."""

from __future__ import annotations

import json
from contextlib import nullcontext
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


def beside(path: str, **sizes: int) -> dict[str, Tensor]:
    return {name.replace(".adapter.", ".parallel_adapter."): value for name, value in bottleneck(path, **sizes).items()}


def hypercomplex(d: int = 32, m: int = 8, n: int = 4, r: int = 1) -> dict[str, Tensor]:
    shapes = {
        f"{end}_sampler.{name}": shape
        for end, (into, out) in {"down": (d, m), "up": (m, d)}.items()
        for name, shape in {"phm_rule": (n, n, n), "W_left": (n, into // n, r), "W_right": (n, r, out // n)}.items()
    }
    return {f"{AT}.compactor.{name}": torch.randn(shape) for name, shape in shapes.items()}


def two_prompts() -> dict[str, Tensor]:
    return {f"{at}soft_prompt_layer.soft_embeds": torch.ones(2, 4) for at in ("", "a.")}


def vectors(d: int) -> dict[str, Tensor]:
    """A projection as wide as the model, of two vectors."""
    parts = {"W_left": (d, 1), "W_right": (1, d), "b": (d,)}
    at = "a.low_rank_adapter"
    return {f"{at}.{end}_sampler.{name}": torch.ones(s) for end in ("down", "up") for name, s in parts.items()}


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


def test_a_compacters_projections_are_sums_of_products(tmp_path: Path) -> None:
    tensors = hypercomplex()
    found = adaptr.load(saved(tmp_path / "a", tensors, "compacter"))
    rule, left, right = (tensors[f"{AT}.compactor.down_sampler.{name}"] for name in ("phm_rule", "W_left", "W_right"))
    assert (found.method, found.targets[AT].config["m"], found.targets[AT].config["n"]) == ("phm", 8, 4)
    want = sum(torch.kron(A, B) for A, B in zip(rule, left @ right, strict=True))
    assert isinstance(want, Tensor)
    D = sum(torch.kron(A, B) for A, B in zip(found.at(AT)["A_d"], found.at(AT)["B_d"], strict=True))
    torch.testing.assert_close(D, want)
    assert not found.at(AT)["b_u"].any()


@pytest.mark.parametrize(
    ("named", "at", "reads", "ends"),
    [
        (["mlp", "mlp"], "mlp", "", "mlp"),
        (["gate_proj", "down_proj"], "mlp.gate_proj", "mlp.gate_proj", "mlp.down_proj"),
        (["mlp", "mlp.down_proj"], "mlp.down_proj", "mlp", "mlp.down_proj"),
    ],
)
def test_a_parallel_adapter_ends_where_the_walk_through_the_base_says(
    named: list[str], at: str, reads: str, ends: str, tmp_path: Path
) -> None:
    model, block = tiny.model("llama"), "model.layers.1."
    folder = saved(tmp_path / "a", beside(f"{block}{at}"), "parallel_adapter", modified_modules=named)
    found = adaptr.load(folder, model)
    ((path, target),) = found.targets.items()
    assert (found.method, path, target.config["reads"]) == ("parallel", f"{block}{ends}", reads and f"{block}{reads}")
    with pytest.raises(e.ConfigMissing, match="only the modules of the base say") if reads else nullcontext():
        adaptr.load(folder)


def test_names_that_no_pair_has_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a", beside(AT), "parallel_adapter", modified_modules=["gate_proj", "down_proj"])
    with pytest.raises(e.TargetNotFound, match="is of none of the pairs"):
        adaptr.load(folder, tiny.model("llama"))


def test_a_prefix_of_a_network_is_what_that_makes(tmp_path: Path) -> None:
    model, tokens, at = tiny.model("gpt2"), 3, "transformer.h.0.attn.reparams"
    heads, count = model.config.n_head, model.config.n_layer
    d, shapes = model.config.n_embd, {"wte.weight": (tokens, 5), "control_trans.0.weight": (6, 5)}
    shapes |= {"control_trans.0.bias": (6,), "control_trans.2.weight": (2 * count * d, 6)}
    tensors = {name: torch.randn(shape) for name, shape in {**shapes, "control_trans.2.bias": (2 * count * d,)}.items()}
    folder = saved(
        tmp_path / "a", {f"{at}.{name}": value for name, value in tensors.items()}, "prefix",
        modified_modules=["attn@"], common_structure=True,
    )  # fmt: skip
    found = adaptr.load(folder, model)
    table, W, b, U, c = tensors.values()
    rows = torch.tanh(table @ W.T + b) @ U.T + c
    assert (found.method, len(found.targets)) == ("prefix", count)
    V = found.at(f"transformer.h.{count - 1}.attn")["V"]
    torch.testing.assert_close(V, rows[:, -d:].view(tokens, heads, -1).transpose(0, 1))


@pytest.mark.parametrize(("name", "match"), [("t5", "leaves out the biases of positions"), ("llama", "has not seen")])
def test_prefixes_that_are_not_followed_are_refused_with_the_reason(name: str, match: str, tmp_path: Path) -> None:
    tensors = {"a.prefix.past_key": torch.ones(2, 4), "a.prefix.past_value": torch.ones(2, 4)}
    with pytest.raises(e.Unsupported, match=match):
        adaptr.load(saved(tmp_path / "a", tensors, "prefix"), tiny.model(name))


@pytest.mark.parametrize(
    ("tensors", "kind", "more", "error", "match"),
    [
        ({}, "mixture", {}, e.Unsupported, "can't read OpenDelta's `mixture`"),
        ({}, "prefix", {}, e.ConfigMissing, "only the base says"),
        (
            {name: value for name, value in hypercomplex().items() if "phm_rule" not in name},
            "compacter", {}, e.Unsupported, r"not trained \(`learn_phm`\): OpenDelta draws them anew",
        ),
        ({**hypercomplex(), f"{AT}.compactor.up_sampler.W_left": torch.ones(4, 3, 1)}, "compacter", {},
         e.ConfigConflict, r"gives \(4, 3, 8\), wanted \(4, 2, 8\)"),
        (beside(AT), "parallel_adapter", {}, e.ConfigMissing, "where a parallel adapter ends"),
        (beside(AT), "parallel_adapter", {"modified_modules": ["a"]}, e.ConfigConflict, "pairs of names"),
        (beside(AT), "parallel_adapter", {"modified_modules": ["[r]a", "b"]}, e.Unsupported, "has the pattern"),
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
        (two_prompts(), "soft_prompt", {}, e.ConfigConflict, "both `soft_prompt_layer.soft_embeds` and `a.soft"),
        (vectors(40000), "low_rank_adapter", {}, e.TensorUnknown, "of the 240000 numbers .* 3200000000 would be"),
        (bottleneck("a"), "adapter", {"non_linearity": "leakyrelu"}, e.Unsupported, "non-linearity is `leakyrelu`"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(
    tensors: dict[str, Tensor], kind: str, more: dict[str, Any], error: type[Exception], match: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=match):
        adaptr.load(saved(tmp_path / "a", tensors, kind, **more))
