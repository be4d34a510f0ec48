"""Composing what has no delta: prompts, prefixes, bottlenecks, quantised parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import adaptr
import tiny
from adaptr.errors import (
    NoDelta,
    ShapeError,
    Unsupported,
)
from adaptr.testing import assert_close, shaken
from composing.inputs import assert_sum, filled, lora


def test_prompts_are_concatenated_under_that_name() -> None:
    model = tiny.model("llama")
    a, b = adaptr.create(model, "prompt", tokens=3), adaptr.create(model, "prompt", tokens=2, seed=1)
    with pytest.raises(NoDelta, match="token"):
        adaptr.compose([a, b])
    made = adaptr.compose([a, b], "concat").adapter
    assert torch.equal(made.tensors[":P"], torch.cat([a.tensors[":P"], b.tensors[":P"]]))
    assert (made.config["tokens"], made.config["rows"]) == (5, 5)
    with pytest.raises(Unsupported, match="weight must be 1"):
        adaptr.compose([(a, 0.5), b], "concat")
    with pytest.raises(Unsupported, match="none"):
        adaptr.compose([lora(1), lora(2)], "concat")
    p, q = adaptr.create(model, "prefix", tokens=3), adaptr.create(model, "prefix", tokens=2, seed=1)
    joined = adaptr.compose([p, q], "concat").adapter
    path = next(iter(p.targets))
    assert torch.equal(joined.at(path)["K"], torch.cat([p.at(path)["K"], q.at(path)["K"]], dim=1))
    with adaptr.attach(model, joined):
        model(**tiny.inputs("llama"))
    with pytest.raises(Unsupported, match="one method"):
        adaptr.compose([a, p], "concat")


def test_quantised_parts_are_averaged_as_floats(tmp_path: Path) -> None:
    """Found in 0.2.0: the parts of an arrangement were left out, and the result was empty."""
    model = tiny.model("llama")
    one, two = (shaken(adaptr.create(model, "mam", m=4, tokens=2), seed) for seed in (1, 2))
    made = adaptr.compose([adaptr.quantize(one, "int8"), two], "average").adapter
    adaptr.save(made, tmp_path / "a.safetensors")
    assert set(made.tensors) == set(one.tensors)
    for key, found in made.tensors.items():
        assert_close(found, (one.tensors[key] + two.tensors[key]) / 2, to=0.01)


def test_bottlenecks_are_averaged_under_that_name() -> None:
    model = tiny.model("llama")
    a, b = (filled(adaptr.create(model, "houlsby", m=4), seed) for seed in (1, 2))
    made = adaptr.compose([(a, 1.0), (b, 3.0)], "average").adapter
    for key, value in made.tensors.items():
        torch.testing.assert_close(value, 0.25 * a.tensors[key] + 0.75 * b.tensors[key])
    with pytest.raises(ShapeError, match="shape"):
        adaptr.compose([a, filled(adaptr.create(model, "houlsby", m=5), 3)], "average")
    with pytest.raises(ShapeError, match="same targets"):
        adaptr.compose([a, filled(adaptr.create(model, "houlsby", ["attn_out"], m=4), 3)], "average")
    with pytest.raises(Unsupported, match="use `linear`"):
        adaptr.compose([lora(1), lora(2)], "average")


def test_quantised_inputs() -> None:
    a, b = lora(1), lora(2)
    q = adaptr.quantize(a, "int8")
    assert_sum(adaptr.compose([q, b]).adapter, [(q, 1.0), (b, 1.0)])
    h, i = (filled(adaptr.create(tiny.model("llama"), "houlsby", m=4), seed) for seed in (1, 2))
    made = adaptr.compose([adaptr.quantize(h, "int8"), i], "average").adapter
    for key, value in made.tensors.items():
        torch.testing.assert_close(value, (h.tensors[key] + i.tensors[key]) / 2, atol=2e-3, rtol=0)
