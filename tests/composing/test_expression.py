"""Adapters as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import adaptr
import tiny
from adaptr.errors import NoDelta, TargetNotFound, UsageError
from composing.inputs import assert_sum, filled, lora


def test_arithmetic_is_the_sum_of_deltas() -> None:
    a, b = lora(1), lora(2, r=2)
    for expression, parts in (
        (0.7 * a + 0.3 * b, [(a, 0.7), (b, 0.3)]),
        (a - b, [(a, 1.0), (b, -1.0)]),
        (-a, [(a, -1.0)]),
        (2 * (a + b) - a / 2, [(a, 1.5), (b, 2.0)]),
        (a + a, [(a, 2.0)]),
    ):
        assert_sum(expression.adapter(), parts)


def test_a_product_on_a_target() -> None:
    a, b = lora(1), lora(2, targets=["attn.q"])
    path = "model.layers.0.self_attn.q_proj"
    x = torch.randn(3, 5, 32)
    torch.testing.assert_close(a[path] @ x, x @ a[path].dense().T)
    torch.testing.assert_close((a - 2 * b)[path] @ x, a[path] @ x - 2 * (b[path] @ x), atol=1e-5, rtol=1e-5)
    other = "model.layers.0.mlp.up_proj"
    torch.testing.assert_close((a + b)[other] @ x, a[other] @ x)
    with pytest.raises(TargetNotFound, match="no weight at"):
        b[other]


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    for seed in (1, 2):
        adaptr.save(lora(seed), tmp_path / f"{seed}")
    a, b = (adaptr.load(tmp_path / f"{seed}") for seed in (1, 2))
    expression = 0.5 * a + b
    (tmp_path / "1").unlink()
    with pytest.raises(adaptr.AdaptrError):
        expression["model.layers.0.self_attn.q_proj"]


def test_saving_gives_the_linear_composition(tmp_path: Path) -> None:
    for seed in (1, 2):
        adaptr.save(lora(seed), tmp_path / f"{seed}")
    a, b = lora(1), lora(2)
    adaptr.save(0.7 * a + 0.3 * b, tmp_path / "sum")
    adaptr.compose([(a, 0.7), (b, 0.3)], out=tmp_path / "composed")
    assert (tmp_path / "sum").read_bytes() == (tmp_path / "composed").read_bytes()


def test_transforms_want_their_base() -> None:
    model = tiny.model("llama")
    a, d = lora(1), filled(adaptr.create(model, "dora", r=2), 2)
    with pytest.raises(NoDelta):
        (a + d).adapter()
    assert_sum((a + d).on(model).adapter(), [(a, 1.0), (d, 1.0)], model)


def test_what_is_no_weight() -> None:
    a = lora(1)
    with pytest.raises(UsageError, match="finite"):
        float("inf") * a
    for wrong in ("2", True, None):
        with pytest.raises(TypeError):
            wrong * a  # type: ignore[operator]
