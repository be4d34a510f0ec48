"""Inputs at the edge of what a formula means: cancelling, of zero, of other ranks, at weight 0, in another order."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import adaptr
import tiny
from adaptr import strategies
from adaptr.algebra.dense import Dense
from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator
from adaptr.algebra.sum import Sum
from adaptr.errors import InputError, NonFinite, NotPossible, Unsupported, UsageError
from adaptr.strategies.base import Place
from adaptr.testing import shaken
from strategies.test_reference import low, nearest, svd

SHAPE = (12, 7)


def made(name: str, ops: Sequence[Operator], weights: Sequence[float], **given: Any) -> Tensor:
    place = {key: given.pop(key) for key in ("inputs", "absent") if key in given}
    strategy = strategies.get(name)
    found = strategy.make(ops, weights, strategy.config(given), Place("layer", **place), None, None)
    return found.operator.dense(torch.float64)


def exact(op: Operator) -> Tensor:
    return op.dense(torch.float64)


def close(found: Tensor, wanted: Tensor, to: float = 1e-5) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=to * max(float(wanted.abs().max()), 1e-30))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.fd = (nn.Linear(16, 12, bias=False) for _ in "cd")
        for weight in self.parameters():
            nn.init.zeros_(weight)


def lora(seed: int, targets: Sequence[str] = ("fc", "fd"), r: int = 4, by: float = 0.2) -> Any:
    made = adaptr.create(Two(), "lora", list(targets), r=r, alpha=r, name=f"a{seed}")
    g = torch.Generator().manual_seed(seed)
    return made.replace(tensors={k: torch.randn(t.shape, generator=g) * by for k, t in made.tensors.items()})


def delta(adapter: Any, path: str = "fc") -> Tensor:
    found = adapter.at(path)
    return found["D"].double() if "D" in found else found["B"].double() @ found["A"].double()


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


# ---------------------------------------------------------------- spectra


@pytest.mark.parametrize(("ranks", "common"), [((2, 6), 0.8), ((1, 6), 0.5), ((3, 4), 0.2), ((1, 1, 1), 0.01)])
def test_iso_cts_takes_the_directions_that_there_are(ranks: tuple[int, ...], common: float) -> None:
    ops = low((24, 20), ranks)
    D = [exact(op) for op in ops]
    U, S, V = svd(sum(D))  # type: ignore[arg-type]
    own = min(round((len(S) - int(len(S) * common)) / len(D)), len(S) // len(D))
    k = len(S) - own * len(D)
    parts = [(U[:, :k], S[:k], V[:k])]
    for one in D:
        u, s, v = torch.linalg.svd(one - U[:, :k] @ U[:, :k].T @ one, full_matrices=False)
        n = min(own, int((s > 1e-9 * one.norm()).sum()))
        parts.append((u[:, :n], s[:n], v[:n]))
    want = torch.cat([s for _, s, _ in parts]).mean() * nearest(torch.cat([u for u, _, _ in parts], 1))
    want = want @ nearest(torch.cat([v for _, _, v in parts]))
    for order in itertools.permutations(range(len(ops))):
        close(made("iso-cts", [ops[n] for n in order], [1.0] * len(ops), common=common), want)


def test_iso_cts_of_more_tasks_than_directions_has_common_ones_alone() -> None:
    ops = low((24, 2), (1, 1, 1))
    close(made("iso-cts", ops, [1.0] * 3, common=0.01), made("iso-c", ops, [1.0] * 3))


@pytest.mark.parametrize("name", ["iso-c", "iso-cts", "tsv"])
def test_experts_of_other_ranks_are_as_on_their_own(name: str) -> None:
    g = torch.Generator().manual_seed(0)
    ops: list[Any] = [LowRank(torch.randn(3, 10, 3, generator=g), torch.randn(3, 3, 8, generator=g)) for _ in "ab"]
    for op in ops:
        op.B[1, :, 1:] = 0.0
        op.B[2] = 0.0
    found = made(name, ops, [1.0, 0.5])
    for e in range(3):
        close(found[e], made(name, [LowRank(op.B[e], op.A[e]) for op in ops], [1.0, 0.5]))


def test_tsv_of_one_direction_twice_is_that_direction() -> None:
    """Where tasks share their directions the nearest orthonormal ones are not free to be anything else."""
    (op,) = low(SHAPE, (1,))
    close(made("tsv", [op, op * 0.5], [1.0, 1.0]), 0.75 * exact(op))


def test_iso_c_of_what_cancels_is_nothing() -> None:
    a, b = low(SHAPE, (2, 2))
    assert float(made("iso-c", [a, b, -a, -b], [0.1, 0.2, 0.1, 0.2]).abs().max()) == 0.0


def test_what_dense_products_round_off_is_no_direction() -> None:
    """A delta without factors of its own has those directions that its product has."""
    ops = low((24, 20), (2, 3))
    dense = [Dense(exact(op)) for op in ops]
    for name in ("iso-c", "iso-cts", "tsv", "knots"):
        close(made(name, dense, [1.0, 1.0]), made(name, ops, [1.0, 1.0]))


@pytest.mark.parametrize("name", ["iso-c", "tsv", "knots"])
def test_a_result_has_the_dtype_of_its_inputs_and_not_that_of_its_arithmetic(name: str) -> None:
    ops = [Dense(exact(op).float()) for op in low(SHAPE, (2, 2))]
    strategy = strategies.get(name)
    found = strategy.make(ops, [1.0, 1.0], strategy.config({}), Place("layer"), None, None).operator
    assert found.dtype == torch.float32


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


# ---------------------------------------------------------------- regmean


@pytest.fixture
def grams(tmp_path: Path) -> Path:
    return written(tmp_path / "grams.safetensors", 5)


def written(path: Path, seed: int) -> Path:
    g = torch.Generator().manual_seed(seed)
    X = [torch.randn(40, SHAPE[1], generator=g) for _ in range(3)]
    save_file({f"layer:{n}": x.T @ x for n, x in enumerate(X)}, path)
    return path


def test_regmean_at_a_lone_target_counts_all_outputs(grams: Path) -> None:
    """An input that does not change the layer has outputs too, that a change of another's would spoil."""
    a, b = low(SHAPE, (3, 3))
    zero = LowRank(torch.zeros_like(b.B), b.A)  # type: ignore[attr-defined]
    want = made("regmean", [a, zero], [1.0, 2.0], grams=str(grams))
    found = made("regmean", [a], [1.0], grams=str(grams), inputs=(0,), absent=((1, 2.0),))
    close(found, want)
    assert float((found - exact(a)).norm() / exact(a).norm()) > 0.1
    close(made("regmean", [a], [3.0], grams=str(grams)), exact(a))


def test_regmean_wants_the_gram_of_an_input_that_is_not_there(grams: Path) -> None:
    (a,) = low(SHAPE, (3,))
    with pytest.raises(InputError, match="layer:7"):
        made("regmean", [a], [1.0], grams=str(grams), inputs=(0,), absent=((7, 1.0),))


def test_regmean_reads_the_file_that_is_there(grams: Path) -> None:
    ops = low(SHAPE, (3, 3))
    first = made("regmean", ops, [1.0, 1.0], grams=str(grams))
    written(grams, 6)
    assert not torch.equal(made("regmean", ops, [1.0, 1.0], grams=str(grams)), first)


def test_regmean_refuses_nan(tmp_path: Path) -> None:
    save_file({"layer:0": torch.full((SHAPE[1], SHAPE[1]), torch.nan)}, tmp_path / "g.safetensors")
    with pytest.raises(NonFinite, match="layer:0"):
        made("regmean", low(SHAPE, (2,)), [1.0], grams=str(tmp_path / "g.safetensors"))


# ---------------------------------------------------------------- lego


def test_lego_takes_more_ranks_than_a_side_has() -> None:
    ops = low((4, 7), (9, 6))
    found = made("lego", ops, [1.0, 1.0], k=15, reweight=False)
    close(found, exact(ops[0]) + exact(ops[1]))
    assert bool(made("lego", ops, [0.7, 0.4]).isfinite().all())


def test_lego_goes_by_units_and_not_by_the_first_input() -> None:
    """All units are of one length, so that the first of them is a matter of choice."""
    g = torch.Generator().manual_seed(3)
    ops: list[Operator] = []
    for _ in range(3):
        U = torch.nn.functional.normalize(torch.randn(3, 19, generator=g, dtype=torch.float64), dim=1)
        ops.append(LowRank(U[:, :12].T.contiguous(), U[:, 12:].contiguous()))
    want = made("lego", ops, [1.0, 1.0, 1.0])
    for order in itertools.permutations(ops):
        assert torch.equal(made("lego", order, [1.0, 1.0, 1.0]), want)


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
