"""Methods that train parameters of the base, held against the base with these parameters changed by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import adaptr
import tiny
from adaptr.errors import BadConfig, TargetNotFound
from adaptr.testing import logits, shaken
from adaptr.testing.closeness import assert_close, bits_equal

CASES = [
    ("llama", "ln-tuning", {}),
    ("gpt2", "ln-tuning", {}),
    ("bert", "ln-tuning", {}),
    ("t5", "layernorm", {}),
    ("gpt2", "top-layers", {}),
    ("bert", "top-layers", {"n": 2}),
    ("t5", "cross-attention", {"norm": True}),
]


def output(model: Any, architecture: str) -> torch.Tensor:
    with torch.no_grad():
        return logits(model(**tiny.inputs(architecture)))


def changed_by_hand(model: nn.Module, adapter: adaptr.Adapter) -> nn.Module:
    with torch.no_grad():
        for path, target in adapter.targets.items():
            layer, p = model.get_submodule(path), adapter.at(path)
            layer.get_parameter("weight").add_(p["D"].t() if target.transposed else p["D"])
            if target.config["bias"]:
                layer.get_parameter("bias").add_(p["b"])
    return model


@pytest.mark.parametrize(("architecture", "method", "config"), CASES)
def test_it_is_the_base_with_these_parameters_changed(architecture: str, method: str, config: Any) -> None:
    model = tiny.model(architecture)
    adapter = shaken(adaptr.create(model, method, **config))
    wanted = output(changed_by_hand(tiny.model(architecture), adapter), architecture)
    with adaptr.attach(model, adapter):
        assert_close(output(model, architecture), wanted)


def test_norms_that_scale_by_one_more_have_the_same_differences() -> None:
    class PlusNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([0.0, -1.0, 0.5]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * (1 + self.weight)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = PlusNorm()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(x)

    model, D = Model(), torch.tensor([2.0, 3.0, 4.0])
    made = adaptr.create(model, "ln-tuning")
    with adaptr.attach(model, made.replace(tensors={"norm:D": D})):
        assert model(torch.ones(3)).tolist() == [3.0, 3.0, 5.5]


def test_two_add_up_as_one_with_their_sum() -> None:
    model = tiny.model("gpt2")
    one, two = (shaken(adaptr.create(model, "ln-tuning"), seed) for seed in (1, 2))
    both = one.replace(tensors={key: one.tensors[key] + two.tensors[key] for key in one.tensors})
    with adaptr.attach(model, both):
        wanted = output(model, "gpt2")
    with adaptr.attach(model, one), adaptr.attach(model, two):
        assert_close(output(model, "gpt2"), wanted)


def test_a_norm_can_have_biases_of_one_adapter_and_weights_of_another() -> None:
    model = tiny.model("gpt2")
    before = output(model, "gpt2")
    bias, weight = (shaken(adaptr.create(model, name)) for name in ("bitfit", "ln-tuning"))
    with adaptr.attach(model, bias), adaptr.attach(model, weight):
        both = output(model, "gpt2")
    changed = changed_by_hand(tiny.model("gpt2"), weight)
    with adaptr.attach(changed, bias.replace(base=adaptr.Base())):
        assert_close(output(changed, "gpt2"), both)
    assert bits_equal(output(model, "gpt2"), before)


def test_blocks_are_counted_and_not_spelled() -> None:
    layers = {f"layers.{n}": nn.Sequential(nn.Linear(2, 2)) for n in range(11)}
    model = nn.ModuleDict({"layers": nn.ModuleList(layers.values())})
    assert list(adaptr.create(model, "top-layers").targets) == ["layers.10.0"]
    assert len(adaptr.create(model, "top-layers", n=3).targets) == 3
    with pytest.raises(BadConfig, match="1 to 11"):
        adaptr.create(model, "top-layers", n=12)


def test_a_model_without_an_encoder_has_no_attention_to_it() -> None:
    with pytest.raises(TargetNotFound, match="encoder_attn"):
        adaptr.create(tiny.model("llama"), "cross-attention")
