"""Composing what adapters don't have in common: places under two names, biases, parameters that they replace."""

from __future__ import annotations

import pytest
import torch

import adaptr
import tiny
from adaptr.adapter import Adapter
from adaptr.changes.deltas import deltas
from adaptr.errors import (
    UsageError,
)
from composing.inputs import assert_sum, filled, lora


def test_biases_add_in_a_sum_and_are_a_choice_elsewhere() -> None:
    a, b = lora(1, "bert", bias=True), lora(2, "bert", bias=True)
    path = next(iter(a.targets))
    summed = adaptr.compose([(a, 0.5), (b, 2.0)]).adapter
    da, db = deltas(a).biases[path], deltas(b).biases[path]
    torch.testing.assert_close(deltas(summed).biases[path], 0.5 * da + 2 * db)
    with pytest.raises(UsageError, match="replaced="):
        adaptr.compose([a, b], "ties")
    first = adaptr.compose([a, b], "ties", replaced="first", rank=4).adapter
    torch.testing.assert_close(deltas(first).biases[path], da)
    average = adaptr.compose([(a, 3.0), (b, 1.0)], "ties", replaced="average").adapter
    torch.testing.assert_close(deltas(average).biases[path], 0.75 * da + 0.25 * db)
    assert not deltas(adaptr.compose([a, b], "ties", replaced="drop").adapter).biases


def test_bitfit_adds() -> None:
    a, b = (filled(adaptr.create(tiny.model("bert"), "bitfit"), seed) for seed in (1, 2))
    made = adaptr.compose([a, (b, 0.5)]).adapter
    assert made.method == "bitfit"
    for path, shift in deltas(made).biases.items():
        torch.testing.assert_close(shift, deltas(a).biases[path] + 0.5 * deltas(b).biases[path])


def with_head(adapter: Adapter, value: float) -> Adapter:
    return adapter.replace(tensors={**adapter.tensors, "score.weight:=": torch.full((2, 32), value)})


def test_no_parent_wins_silently() -> None:
    a, b, c = with_head(lora(1), 1.0), with_head(lora(2), 3.0), lora(3)
    with pytest.raises(UsageError, match=r"`score.weight` comes from 2 inputs.*replaced=.first"):
        adaptr.compose([a, b])
    for choice, want in (("first", 1.0), ("average", 2.5)):
        made = adaptr.compose([(a, 0.5), (b, 1.5)], replaced=choice)
        assert float(made.adapter.replaced["score.weight"][0, 0]) == want
        assert made.report.replaced == ("score.weight",)
    assert not adaptr.compose([a, b], replaced="drop").adapter.replaced
    assert float(adaptr.compose([c, b]).adapter.replaced["score.weight"][0, 0]) == 3.0  # of one input alone
    assert float(adaptr.compose([a, with_head(c, 1.0)]).adapter.replaced["score.weight"][0, 0]) == 1.0  # both alike


def test_a_whole_parameter_has_no_half() -> None:
    """It was kept whole at any weight, where merging refuses and attaching goes half the way."""
    a, b = with_head(lora(1), 1.0), lora(2)
    for inputs in ([(a, 0.5)], [(a, 0.5), b]):
        with pytest.raises(UsageError, match=r"by one input, whose weight is 0\.5.*replaced=.first"):
            adaptr.compose(inputs)
        assert "score.weight" in adaptr.compose(inputs, replaced="first").adapter.replaced
        assert not adaptr.compose(inputs, replaced="drop").adapter.replaced
    ground = lora(1, targets=["mlp.down"])
    ground = ground.replace(tensors={**ground.tensors, "model.layers.0.mlp.down_proj.weight:=": torch.ones(32, 48)})
    assert adaptr.compose([(ground, 0.5)]).adapter.replaced  # under its own delta: no change


def test_an_input_at_weight_zero_is_as_if_not_given() -> None:
    a, b = with_head(lora(1), 1.0), with_head(lora(2), 3.0)
    alone = adaptr.compose([a]).adapter
    for other in (b, b.replace(tensors={**b.tensors, "model.norm.weight:=": torch.ones(32)})):
        made = adaptr.compose([a, (other, 0.0)])
        assert made.report.replaced == ("score.weight",)
        assert float(made.adapter.replaced["score.weight"][0, 0]) == 1.0
        assert made.report.alone == 0
        assert_sum(made.adapter, [(alone, 1.0)])
    one, two = lora(1, "bert", bias=True), lora(2, "bert", bias=True)
    path = next(iter(one.targets))
    ties = adaptr.compose([one, (two, 0.0)], "ties").adapter
    torch.testing.assert_close(deltas(ties).biases[path], deltas(one).biases[path])
    with pytest.raises(UsageError, match="all weights are zero"):
        adaptr.compose([(a, 0.0), (b, 0.0)])


def test_a_parameter_that_is_both_replaced_and_changed_is_refused() -> None:
    a, b = lora(1), lora(2, targets=["attn.q"])
    down = "model.layers.0.mlp.down_proj"
    b = b.replace(tensors={**b.tensors, f"{down}.weight:=": torch.ones(32, 48)})
    with pytest.raises(UsageError, match="replaced as a whole by one input and changed by a delta"):
        adaptr.compose([a, b])
