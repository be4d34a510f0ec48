"""A router of experts holds its weight and applies it itself: adapters are in that weight."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers as t
from torch import nn

import adaptr
import tiny
from adaptr import errors
from adaptr.runtime.pool import fit
from adaptr.testing import assert_close, logits, merged, shaken

SMALL = {"num_hidden_layers": 2, "hidden_size": 32, "vocab_size": tiny.VOCAB, "num_attention_heads": 4}
SPARSE = {**SMALL, "num_key_value_heads": 2, "intermediate_size": 48, "moe_intermediate_size": 16, "head_dim": 8}
MODELS: dict[str, Any] = {
    "mixtral": lambda: t.MixtralForCausalLM(t.MixtralConfig(**tiny.GROUPED, num_local_experts=4)),
    "qwen3": lambda: t.Qwen3MoeForCausalLM(t.Qwen3MoeConfig(**SPARSE, num_experts=4, num_experts_per_tok=2)),
    "olmoe": lambda: t.OlmoeForCausalLM(t.OlmoeConfig(**tiny.GROUPED, num_experts=4, num_experts_per_tok=2)),
}
IDS = torch.arange(12).view(2, 6)


def seeded(name: str) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[name]().eval()


def fresh(model: nn.Module, method: str, **config: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, method, ["gate"], name="a", **config), 1, 0.5)


@pytest.mark.parametrize("method", ["lora", "dora", "ia3", "full"])
@pytest.mark.parametrize("name", MODELS)
def test_a_router_is_adapted_as_merged(name: str, method: str) -> None:
    model = seeded(name)
    adapter = fresh(model, method)
    assert list(adapter.targets) == ["model.layers.0.mlp.gate", "model.layers.1.mlp.gate"]
    with torch.no_grad():
        before, wanted = model(IDS).logits, merged(model, [(adapter, 1.0)])(IDS).logits
        with adaptr.attach(model, adapter):
            assert_close(model(IDS).logits, wanted, to=2e-5)
            assert_close(copy.deepcopy(model)(IDS).logits, wanted, to=2e-5)
        assert torch.equal(model(IDS).logits, before)


def test_a_router_learns() -> None:
    model = seeded("mixtral")
    with adaptr.train(model, fresh(model, "lora")) as session:
        model(IDS).logits.square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in session.parameters())


def test_all_linear_leaves_routers_alone() -> None:
    model = seeded("mixtral")
    assert not [p for p in adaptr.create(model, "lora", "all-linear").targets if p.endswith("gate")]


def test_a_router_has_no_dropout_no_gate_and_no_row() -> None:
    model = seeded("mixtral")
    with pytest.raises(errors.Unsupported, match="dropout=0"):
        adaptr.train(model, fresh(model, "lora", dropout=0.1))
    with pytest.raises(errors.Unsupported, match="no linear layer that its model calls"):
        fit.require(model, fresh(model, "lora"))
    children = {"a": fresh(model, "lora"), "b": fresh(model, "lora", r=2)}
    with pytest.raises(errors.Unsupported, match="never calls it"):
        adaptr.attach(model, adaptr.create(model, "arrow", children=children))


def test_a_router_compiles_without_a_break() -> None:
    model = seeded("mixtral").model.layers[0].mlp.gate
    holder = nn.Sequential(model)
    adapter = shaken(adaptr.create(holder, "lora", ["0"], name="a"), 1, 0.5)
    x = torch.randn(3, 32)
    with adaptr.attach(holder, adapter), torch.no_grad():
        wanted = logits(holder(x)[0])
        torch._dynamo.reset()
        assert_close(torch.compile(holder, backend="eager", fullgraph=True)(x)[0], wanted)
