"""Adapters that name each expert's layers alone, on models that stack them: as merged into the checkpoint."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as t
from torch import nn

import adaptr
import tiny
from adaptr import Adapter, Target, errors
from adaptr.testing import assert_close, shaken

SPARSE = {**tiny.GROUPED, "moe_intermediate_size": 16, "head_dim": 8, "num_experts": 12, "num_experts_per_tok": 4}
#: The model, and how transformers 4 and checkpoints call an expert's layers: path, names, sizes inside.
MODELS: dict[str, Any] = {
    "mixtral": (
        lambda: t.MixtralForCausalLM(t.MixtralConfig(**tiny.GROUPED, num_local_experts=3)),
        "block_sparse_moe.experts",
        {"w1": (48, 32), "w2": (32, 48), "w3": (48, 32)},
    ),
    "qwen3": (
        lambda: t.Qwen3MoeForCausalLM(t.Qwen3MoeConfig(**SPARSE)),
        "mlp.experts",
        {"gate_proj": (16, 32), "down_proj": (32, 16), "up_proj": (16, 32)},
    ),
}
IDS = torch.arange(12).view(2, 6)


def seeded(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name][0]().eval()


def apart(name: str, method: str, **config: Any) -> Adapter:
    """An adapter of the layers of experts 0 and 2 in both blocks, and of a projection."""
    _, path, sizes = MODELS[name]
    made = adaptr.plugins.method(method)
    values = vars(made.config(config)).copy()
    paths = {
        f"model.layers.{i}.{path}.{e}.{leaf}": size for i in (0, 1) for e in (0, 2) for leaf, size in sizes.items()
    }
    targets = {p: Target(p, "linear", size, values) for p, size in paths.items()}
    targets["model.layers.1.self_attn.q_proj"] = Target("model.layers.1.self_attn.q_proj", "linear", (32, 32), values)
    tensors = {
        f"{p}:{param}": torch.ones(shape)
        for p, target in targets.items()
        for param, shape in made.shapes(target).items()
    }
    return shaken(Adapter(method, values, targets, tensors, made.version, name="a"), 1, 0.3)


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "full"])
@pytest.mark.parametrize("name", MODELS)
def test_attached_is_merged(name: str, method: str, tmp_path: Path) -> None:
    model, adapter = seeded(name), apart(name, method)
    model.save_pretrained(tmp_path / "base")
    adaptr.merge(tmp_path / "base", [adapter], tmp_path / "out")
    made = type(model).from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        before, wanted = model(IDS).logits, made(IDS).logits
        with adaptr.attach(model, adapter):
            assert_close(model(IDS).logits, wanted, to=1e-5)
            assert_close(copy.deepcopy(model)(IDS).logits, wanted, to=1e-5)
        assert torch.equal(model(IDS).logits, before)
    assert not torch.allclose(wanted, before, atol=1e-4)


def test_it_learns_and_keeps_its_names() -> None:
    model, adapter = seeded("mixtral"), apart("mixtral", "lora")
    with adaptr.train(model, adapter) as session:
        model(IDS).logits.square().sum().backward()
        assert all(p.grad is not None for p in session.parameters())
        assert session.adapted().tensors.keys() == adapter.tensors.keys()


def test_it_stands_on_an_adapter_of_the_stack() -> None:
    model, one = seeded("mixtral"), apart("mixtral", "lora")
    stacked = shaken(adaptr.create(model, "lora", ["*experts*"], name="s"), 2, 0.3)
    layer = model.model.layers[0].mlp.experts
    before = layer.down_proj.detach().clone()
    with torch.no_grad(), adaptr.attach(model, stacked), adaptr.attach(model, one, 0.5):
        got = adaptr.host.experts.experts_value(layer, "down_proj")
    whole = stacked.at("model.layers.0.mlp.experts.down_proj")
    before += 2 * whole["B"] @ whole["A"]
    for e in (0, 2):
        own = one.at(f"model.layers.0.block_sparse_moe.experts.{e}.w2")
        before[e] += 0.5 * 2 * own["B"] @ own["A"]
    assert_close(got, before)


def test_sizes_experts_dropout_and_biases_that_do_not_fit_are_refused() -> None:
    model, adapter = seeded("mixtral"), apart("mixtral", "lora")
    path = "model.layers.0.block_sparse_moe.experts.7.w1"
    tensors = {f"{path}:A": torch.ones(8, 32), f"{path}:B": torch.ones(48, 8)}
    far = Adapter("lora", {}, {path: Target(path, "linear", (48, 32))}, tensors)
    with pytest.raises(errors.TargetMismatch, match="expert 7"):
        adaptr.attach(model, far)
    with pytest.raises(errors.Unsupported, match="dropout=0"):
        adaptr.train(model, apart("mixtral", "lora", dropout=0.1))
    with pytest.raises(errors.Unsupported, match="bias"):
        adaptr.attach(model, apart("mixtral", "lora", bias=True))
    gate = adaptr.create(model, "arrow", children={"a": adapter, "b": apart("mixtral", "lora", r=2)})
    with pytest.raises(errors.Unsupported, match="part of a stack"):
        adaptr.attach(model, gate)
    assert not adaptr.host.attached(model)
    assert "Adapted" not in str(model)
