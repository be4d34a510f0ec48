"""Gates that are refused, and one that is there already stays as it is."""

from __future__ import annotations

import pytest
import torch

import adaptr
import tiny
from adaptr.errors import (
    AlreadyAttached,
    BadConfig,
    NotPossible,
    Unsupported,
    UsageError,
)
from adaptr.testing import bits_equal
from runtime.gates import expert, gate, out


def test_what_is_no_delta_is_no_expert() -> None:
    model, a = tiny.model("llama"), expert(tiny.model("llama"), 1)
    whole = a.replace(tensors={**a.tensors, "model.norm.weight:=": torch.ones(32)})
    for child, error, words in (
        (expert(model, 2, "dora"), Unsupported, "weighs deltas"),
        (adaptr.create(model, "houlsby", m=4), Unsupported, "weighs deltas"),
        (whole, NotPossible, "as a whole"),
    ):
        with pytest.raises(error, match=words):
            adaptr.create(model, "xlora", children={"a": a, "b": child})
    other = tiny.model("t5")
    two = adaptr.create(other, "xlora", children={"a": expert(other, 1, targets=["attn.o"])})
    with pytest.raises(Unsupported, match="encoder-decoder"):
        adaptr.attach(other, two)
    with pytest.raises(UsageError, match="give them as"):
        adaptr.create(model, "xlora")
    with pytest.raises(UsageError, match="made of no other"):
        adaptr.create(model, "lora", children={"a": a})
    with pytest.raises(UsageError, match="given twice"):
        adaptr.create(model, "arrow", children={"a": a, "b": a})
    for config in ({"depth": 0}, {"temperature": 0.0}, {"top_k": 3}, {"dropout": 1.0}):
        with pytest.raises(BadConfig):
            adaptr.create(model, "xlora", children={"a": a}, **config)


def test_a_layer_called_outside_of_its_model_has_no_weights() -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, gate(model)), pytest.raises(Unsupported, match="outside of its model"):
        model.model.layers[0].self_attn.q_proj(torch.ones(1, 2, 32))


def test_two_gates_with_a_pass_are_refused_and_leave_the_first() -> None:
    model = tiny.model("llama")
    with adaptr.attach(model, gate(model)):
        wanted = out(model)
        with pytest.raises(AlreadyAttached, match="a gate on this model already"):
            adaptr.attach(model, gate(model, children={"z": expert(model, 5)}))
        assert bits_equal(out(model), wanted)
