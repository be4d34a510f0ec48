"""Changes of norms' weights are measured as columns."""

from __future__ import annotations

import pytest

import adaptr
import tiny


def test_two_changes_of_norms() -> None:
    model = tiny.model("llama")
    one, two = (adaptr.testing.shaken(adaptr.create(model, "ln-tuning"), seed) for seed in (1, 2))
    found = adaptr.diff(one, two)
    assert found.same_change is False
    for target in found.targets:
        a, b = (adapter.tensors[f"{target.path}:D"] for adapter in (one, two))
        assert target.norm_a == pytest.approx(float(a.norm()), rel=1e-5)
        assert target.cosine == pytest.approx(float((a @ b) / (a.norm() * b.norm())), abs=1e-5)
        assert target.rank_a == 1
