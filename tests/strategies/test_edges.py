"""Inputs at the edge of what a formula means: cancelling, of zero, of other ranks, at weight 0, in another order."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import adaptr
import tiny
from adaptr import strategies
from adaptr.algebra.dense import Dense
from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.sum import Sum
from adaptr.errors import NonFinite, NotPossible, Unsupported, UsageError
from adaptr.strategies.base import Place
from adaptr.testing import shaken
from strategies.formulas import SHAPE, close, delta, exact, lora, made
from strategies.test_reference import low

# ---------------------------------------------------------------- directions that cancel


@pytest.mark.parametrize("name", ["karcher", "slerp"])
def test_opposite_directions_have_no_mean(name: str, tmp_path: Path) -> None:
    a = lora(1)
    turned = a.replace(tensors={k: -t if k == "fc:B" else t for k, t in a.tensors.items()}, name="turned")
    for weight in (0.5, 0.25):
        with pytest.raises(NotPossible, match=r"`fc`.*use `linear`"):
            adaptr.compose([(a, 1 - weight), (turned, weight)], name, out=tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())
    only = adaptr.compose([(a, 1.0), (turned, 0.0)], name).adapter
    close(delta(only), delta(a))


def test_three_directions_that_cancel_have_no_mean() -> None:
    D = torch.zeros(3, 4, 4)
    for n, angle in enumerate((0.0, 2.0943951023931953, 4.1887902047863905)):
        D[n, 0, 0], D[n, 0, 1] = torch.tensor(angle).cos(), torch.tensor(angle).sin()
    with pytest.raises(NotPossible, match="cancel"):
        made("karcher", [Dense(one) for one in D], [1.0, 1.0, 1.0])


# ---------------------------------------------------------------- slerp


def test_slerp_goes_by_the_share_of_the_weights_alone() -> None:
    a, b = lora(1), lora(2, ["fc"])
    for path in ("fc", "fd"):
        one, three = (delta(adaptr.compose([(a, w), (b, 3 * w)], "slerp").adapter, path) for w in (1.0, 3.0))
        close(three, one)


@pytest.mark.parametrize("name", ["karcher", "slerp"])
@pytest.mark.parametrize("path", ["fc", "fd"])
def test_means_of_directions_do_not_jump_at_zero(name: str, path: str) -> None:
    """Neither where both inputs change the target nor where one does."""
    a, b = lora(1), lora(2, ["fc"])
    nearly, none = (delta(adaptr.compose([(a, 2.0), (b, w)], name).adapter, path) for w in (1e-9, 0.0))
    close(none, delta(a, path))
    close(nearly, none)


@pytest.mark.parametrize("name", ["karcher", "slerp"])
def test_to_nothing_is_the_straight_line(name: str) -> None:
    a, b = lora(1), lora(2, ["fc"])
    close(delta(adaptr.compose([(a, 3.0), (b, 1.0)], name).adapter, "fd"), 0.75 * delta(a, "fd"))


# ---------------------------------------------------------------- sums of dense deltas


def test_the_sum_of_dense_deltas_is_no_decomposition() -> None:
    """Only of factors may there be more than the sides have."""
    ops = [Dense(exact(op)) for op in low(SHAPE, (3, 3))]
    strategy = strategies.get("linear")
    found = strategy.make(ops, [0.5, 2.0], strategy.config({}), Place("layer"), None, None).operator
    assert isinstance(found, Sum)
    assert torch.equal(exact(found), 0.5 * exact(ops[0]) + 2.0 * exact(ops[1]))


# ---------------------------------------------------------------- a bias that one input alone changes


#: What takes a delta that stands alone by a number, and with which configuration nothing is left out.
ALONE: dict[str, dict[str, Any]] = {
    "linear": {}, "task-arithmetic": {"lam": 0.4}, "slerp": {}, "karcher": {},
    "ties": {"density": 1.0, "lam": 0.6}, "dare": {"density": 1.0},
    "dare-ties": {"density": 1.0}, "knots": {"density": 1.0},
}  # fmt: skip


@pytest.mark.parametrize("name", ALONE)
def test_a_lone_bias_is_taken_as_a_lone_delta_is(name: str) -> None:
    """At any scale of the weights: of `fd`, which one input alone changes, weight and bias have one coefficient."""
    first, b = lora(1), lora(2, ["fc"])
    shift = torch.arange(12.0)
    a = first.replace(
        tensors={**first.tensors, "fd:b": shift, "fc:b": shift},
        targets={p: replace(t, config={**t.config, "bias": True}) for p, t in first.targets.items()},
    )
    for by in (1.0, 3.0):
        made = adaptr.compose([(a, 0.75 * by), (b, 0.25 * by)], name, **ALONE[name]).adapter
        D, old = delta(made, "fd"), delta(first, "fd")
        taken = float((D * old).sum() / old.square().sum())
        close(D, taken * old, 1e-3)
        for path in ("fc", "fd"):
            torch.testing.assert_close(made.at(path)["b"], taken * shift, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- votes


def test_knots_lets_zeros_not_vote() -> None:
    a, b = low(SHAPE, (3, 3))
    zero = LowRank(torch.zeros_like(b.B), b.A)  # type: ignore[attr-defined]
    close(made("knots", [a, zero], [1.0, 1.0], density=1.0), exact(a))
    b.A[:, 4:] = 0.0  # type: ignore[attr-defined]
    close(made("knots", [a, b], [1.0, 1.0], density=1.0)[:, 4:], exact(a)[:, 4:])


@pytest.mark.parametrize("name", ["ties", "knots"])
def test_votes_that_cancel_elect_nobody(name: str) -> None:
    (a,) = low(SHAPE, (2,))
    for w in (0.3, 0.1, 0.7):
        assert float(made(name, [a, -a], [w, w], density=1.0).abs().max()) == 0.0


@pytest.mark.parametrize("name", ["ties", "knots"])
def test_a_tie_is_one_in_every_order(name: str) -> None:
    """0.1 + 0.2 - 0.3 is not 0 in floating point, in some orders."""
    (a,) = low(SHAPE, (2,))
    inputs = [(a, 0.1), (a, 0.2), (-a, 0.3)]
    for order in itertools.permutations(inputs):
        found = made(name, [op for op, _ in order], [w for _, w in order], density=1.0)
        assert float(found.abs().max()) == 0.0


def test_knots_keeps_all_values_that_are_alike_or_none() -> None:
    """All magnitudes of V are one here; which rounding made largest is nothing to choose by."""
    D = torch.ones(8, 6)
    D[:, ::2] = -1.0
    close(made("knots", [Dense(D)], [1.0], density=0.2), D.double())


# ---------------------------------------------------------------- a whole composition


@pytest.mark.parametrize("name", ["dare", "dare-ties", "della"])
def test_what_is_drawn_goes_with_the_input(name: str, tmp_path: Path) -> None:
    """Not with its place, its name, or whether it is a file."""
    a, b = lora(1), lora(2)
    adaptr.save(a.replace(name="other"), tmp_path / "a.safetensors")
    one = adaptr.compose([(a, 0.6), (b, 0.4)], name, density=0.5).adapter
    two = adaptr.compose([(b, 0.4), (tmp_path / "a.safetensors", 0.6)], name, density=0.5).adapter
    for path in ("fc", "fd"):
        close(delta(two, path), delta(one, path))
    seeded = adaptr.compose([(a, 0.6), (b, 0.4)], name, density=0.5, seed=1).adapter
    assert not torch.equal(delta(seeded), delta(one))


def test_a_result_that_overflows_is_refused(tmp_path: Path) -> None:
    huge = lora(1, by=1e25)
    with pytest.raises(NonFinite, match="`ties` makes NaN or infinity at `f"):
        adaptr.compose([huge, lora(2)], "ties", out=tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("by", [1e-12, 1e12])
def test_errors_are_measured_at_any_scale(by: float) -> None:
    a, b = lora(1), lora(2)
    want = adaptr.compose([a, b], "ties", rank=3).report
    found = adaptr.compose([_scaled(a, by), _scaled(b, by)], "ties", rank=3).report
    assert found.error == pytest.approx(want.error, rel=1e-4)
    assert found.distance == pytest.approx(want.distance, rel=1e-4)


def _scaled(adapter: Any, by: float) -> Any:
    return adapter.replace(tensors={k: t * by for k, t in adapter.tensors.items()})


def test_weights_that_add_up_to_rounding_add_up_to_zero() -> None:
    inputs = [(lora(1), 0.1), (lora(2), 0.2), (lora(3), -0.3)]
    with pytest.raises(UsageError, match="add up to zero"):
        adaptr.compose(inputs, normalize=True)


def test_what_is_read_in_other_ways_is_not_averaged() -> None:
    model = tiny.model("llama")
    one, two = (adaptr.create(model, "houlsby", m=4, activation=activation) for activation in ("relu", "gelu"))
    with pytest.raises(Unsupported, match="read in different ways at `model"):
        adaptr.compose([one, shaken(two)], "average")
