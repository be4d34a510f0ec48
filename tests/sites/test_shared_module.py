"""Two sites on one module: each does its own, in whatever order they come and go."""

from __future__ import annotations

import itertools

import pytest
import torch

import adaptr
import tiny
from adaptr.testing import logits, shaken


@pytest.mark.parametrize("order", list(itertools.permutations(("prefix", "houlsby"))))
@pytest.mark.parametrize("first_off", [0, 1])
def test_a_prefix_and_a_bottleneck_on_one_attention(order: tuple[str, str], first_off: int) -> None:
    model, given = tiny.model("llama"), tiny.inputs("llama")
    made = {
        "prefix": shaken(adaptr.create(model, "prefix", tokens=3)),
        "houlsby": shaken(adaptr.create(model, "houlsby", ["re:.*self_attn"], m=4)),
    }
    classes = [type(m) for m in model.modules()]
    names = [name for name, _ in model.named_modules()]
    with torch.no_grad():
        bare = logits(model(**given))
        alone = {}
        for name, adapter in made.items():
            with adaptr.attach(model, adapter):
                alone[name] = logits(model(**given))
        handles = [adaptr.attach(model, made[name]) for name in order]
        both = logits(model(**given))
        assert not any(torch.allclose(both, one) for one in alone.values())
        handles[first_off].detach()
        assert torch.equal(logits(model(**given)), alone[order[1 - first_off]])
        if order[first_off] == "houlsby":  # a prefix needs no class of its own
            assert [type(model.get_submodule(name)) for name in names] == classes
        handles[1 - first_off].detach()
        assert torch.equal(logits(model(**given)), bare)
    assert [type(m) for m in model.modules()] == classes
    assert not any("adapters" in m._modules for m in model.modules())
