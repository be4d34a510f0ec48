"""Inserts at modules that give several things, or are called by keyword alone."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
import transformers as t
from torch import Tensor, nn

import adaptr
import tiny
from adaptr.testing import assert_close, logits, shaken


class Pair(NamedTuple):
    hidden: Tensor
    cache: str


GIVEN: dict[str, Any] = {
    "tensor": lambda y: y,
    "tuple": lambda y: (y, "cache", None),
    "list": lambda y: [y, "cache"],
    "named": lambda y: Pair(y, "cache"),
    "output": lambda y: t.modeling_outputs.BaseModelOutput(last_hidden_state=y, hidden_states=(y,)),
    "dict": lambda y: {"hidden": y, "cache": "cache"},
}


class Gives(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.fc = kind, nn.Linear(8, 8)

    def forward(self, *, x: Tensor) -> Any:
        return GIVEN[self.kind](self.fc(x))


class Holds(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner, self.config = Gives(kind), t.BertConfig(hidden_size=8)

    def forward(self, x: Tensor) -> Any:
        return self.inner(x=x)


def first(output: Any) -> Tensor:
    found = next(iter(output.values())) if isinstance(output, dict) else output
    return found if isinstance(found, Tensor) else found[0]


@pytest.mark.parametrize("method", ["houlsby", "parallel"])
@pytest.mark.parametrize("kind", GIVEN)
def test_the_first_output_is_adapted_and_the_others_stay(kind: str, method: str) -> None:
    x, plain, model = torch.randn(2, 8), Holds("tensor"), Holds(kind)
    adapter = shaken(adaptr.create(plain, method, ["inner"], name="a", m=4), 1, 0.5)
    before = model(x)
    with adaptr.attach(plain, adapter), adaptr.attach(model, adapter.replace(name="b")):
        got = model(x)
        assert_close(first(got), plain(x))
    assert type(got) is type(before)
    if kind != "tensor":
        assert len(got) == len(before)
        assert list(got)[1:] == list(before)[1:] if kind != "output" else torch.equal(got[1][0], before[1][0])


@pytest.mark.parametrize("name", ["llama", "gpt2", "bert", "t5"])
def test_whole_attentions_and_blocks_can_have_inserts(name: str) -> None:
    model = tiny.model(name)
    spec = {"llama": ["self_attn", "layers.1"], "gpt2": ["attn", "h.0"], "bert": ["attention.self"], "t5": ["block.0"]}
    adapter = shaken(adaptr.create(model, "houlsby", spec[name], name="a", m=4), 1, 0.5)
    with torch.no_grad():
        before = logits(model(**tiny.inputs(name)))
        with adaptr.attach(model, adapter, 0.0) as handle:
            assert_close(logits(model(**tiny.inputs(name))), before, to=1e-6)
            handle.weight = 1.0
            after = logits(model(**tiny.inputs(name)))
    assert not torch.allclose(after, before, atol=1e-4)


@pytest.mark.parametrize("weight", [-1.0, 0.5, 2.0])
def test_any_strength_is_that_many_times_what_is_added(weight: float) -> None:
    x, model = torch.randn(2, 8), Holds("tensor")
    adapter = shaken(adaptr.create(model, "houlsby", ["inner"], m=4), 1, 0.5)
    before = model(x)
    with adaptr.attach(model, adapter) as handle:
        one = model(x)
        handle.weight = weight
        assert_close(model(x) - before, weight * (one - before))
