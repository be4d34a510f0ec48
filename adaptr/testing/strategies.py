"""The laws that every composition strategy keeps, as a pytest class. A strategy's author writes:

    import adaptr.testing

    class TestMine(adaptr.testing.StrategyLaws):
        strategy = "mine"

and gets a test a law, on small deltas that hypothesis draws. What the strategy declares of itself (`ordered`, `jumps`,
`scale_free`, `diluted`, `by_factors`, `factor`) says which laws are for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from adaptr.algebra.operator import Operator
from adaptr.contract.settings import hints
from adaptr.errors import AdaptrError, BadConfig, Unsupported
from adaptr.strategies.whole import Whole
from adaptr.testing import deltas
from adaptr.testing.deltas import HOSTILE, KINDS, Case
from adaptr.testing.skipping import skip
from adaptr.testing.trials import EXAMPLES, Trial, double

if TYPE_CHECKING:
    from torch import Tensor

#: Of results in fp32, relative to the largest value.
CLOSE = 2e-5


class StrategyLaws(Trial):
    """One test a law."""

    def test_law_1_the_same_at_each_run_and_inputs_as_they_were(self) -> None:
        def law(case: Case) -> None:
            before = [t.clone() for op in case.ops for t in op.tensors]
            first, second = (self.made(case.ops, case.weights) for _ in range(2))
            assert _equal(first, second)
            after = [t for op in case.ops for t in op.tensors]
            assert all(_equal(a, b) for a, b in zip(before, after, strict=True))

        self.holds(law, self.cases())

    def test_law_2_the_order_of_inputs_is_nothing(self) -> None:
        if self.own.ordered:
            skip(f"`{self.strategy}`: {self.own.ordered}")

        def law(case: Case) -> None:
            turned = range(len(case.ops) - 1, -1, -1)
            found = self.made([case.ops[n] for n in turned], [case.weights[n] for n in turned], turned)
            assert_alike(found, self.made(case.ops, case.weights))

        self.holds(law, self.cases((*KINDS, "signs")), 2 * EXAMPLES)

    def test_law_3_finite_or_refused(self) -> None:
        def law(case: Case) -> None:
            try:
                found = self.made(case.ops, case.weights)
            except AdaptrError:
                return
            assert bool(found.isfinite().all())

        self.holds(law, self.cases(HOSTILE, (*self.strengths, *self.refused)), 4 * EXAMPLES)

    def test_law_4_an_input_at_a_weight_of_almost_nothing_is_almost_none(self) -> None:
        if self.own.jumps:
            skip(f"`{self.strategy}`: {self.own.jumps}")

        def law(case: Case) -> None:
            *ops, last = case.ops
            weights = case.weights[:-1]
            found = self.made([*ops, last], [*weights, 1e-9])
            assert_alike(found, self.made(ops, weights))

        self.holds(law, self.cases())

    def test_law_5_a_scale_of_all_weights_is_one_of_the_result_or_nothing(self) -> None:
        if len(set(self.strengths)) == 1:
            skip(f"`{self.strategy}` is tried at one strength")
        by = 1.0 if self.own.scale_free or self.own.normalize else 3.0

        def law(case: Case) -> None:
            found = self.made(case.ops, [3.0 * weight for weight in case.weights])
            assert_alike(found, by * self.made(case.ops, case.weights))

        self.holds(law, self.cases())

    def test_law_6_a_scale_of_all_deltas_is_one_of_the_result(self) -> None:
        def law(case: Case) -> None:
            for by in (4.0, 2.0**-66, 2.0**60):
                scaled = [op * by if self.own.by_factors else deltas.times(op, by) for op in case.ops]
                found = self.made(scaled, case.weights)
                assert_alike(found / by, self.made(case.ops, case.weights))

        self.holds(law, self.cases())

    def test_law_7_one_input_is_itself(self) -> None:
        if self.whole is None or self.own.least > 1:
            skip(f"`{self.strategy}` is never one input itself")
        options = {**self.options(), **self.whole}

        def law(case: Case) -> None:
            op = case.ops[0]
            assert_alike(self.made([op], [1.0], options=options), op.dense(double()))

        self.holds(law, self.cases())

    def test_law_8_a_delta_of_zero_is_none(self) -> None:
        if isinstance(self.own, Whole):
            skip(f"`{self.strategy}` takes whole adapters, not deltas")

        def law(case: Case) -> None:
            last = len(case.ops) - 1
            zero = deltas.times(case.ops[last], 0.0)
            found = self.made([*case.ops[:last], zero], case.weights)
            weights = case.weights[:last]
            assert_alike(found, self.made(case.ops[:last], weights, absent=[(last, case.weights[last])]))

        self.holds(law, self.cases())

    def test_law_9_how_a_delta_is_written_is_nothing(self) -> None:
        if self.own.by_factors or isinstance(self.own, Whole):
            skip(f"`{self.strategy}` looks at factors or tensors, not at what they make")

        def law(case: Case) -> None:
            for written in (deltas.dense, deltas.rescaled):
                found = self.made([written(op) for op in case.ops], case.weights)
                assert_alike(found, self.made(case.ops, case.weights))

        self.holds(law, self.cases())

    def test_law_10_of_experts_each_has_its_own_or_is_refused(self) -> None:
        if isinstance(self.own, Whole):
            skip(f"`{self.strategy}` takes whole adapters, not deltas")

        def law(case: Case) -> None:
            stacks = [deltas.stacked(op) for op in case.ops]
            try:
                found = self.made(stacks, case.weights)
            except Unsupported:
                return
            assert found.shape == stacks[0].shape
            assert bool(found.isfinite().all())
            if self.own.space != "elements":
                self._require_each(found, stacks, case.weights)

        self.holds(law, self.cases())

    def _require_each(self, found: Tensor, stacks: Sequence[Operator], weights: Sequence[float]) -> None:
        """An expert that no input changes stays as it is."""
        untouched = [e for e in range(found.shape[0]) if not any(op.dense()[e].any() for op in stacks)]
        for e in untouched:
            assert float(found[e].abs().max()) <= CLOSE * max(float(found.abs().max()), 1e-30)

    def test_law_11_a_field_that_is_none_is_refused(self) -> None:
        import pytest

        with pytest.raises(BadConfig, match="no_such_field"):
            self.own.config({**self.options(), "no_such_field": 1})

    def test_law_12_its_factor_is_one_of_the_result(self) -> None:
        field = self.own.factor
        if not field:
            skip(f"`{self.strategy}` has no factor")

        def law(case: Case) -> None:
            once, more = ({**self.options(), field: by} for by in (1.0, 2.5))
            found = self.made(case.ops, case.weights, options=more)
            assert_alike(found, 2.5 * self.made(case.ops, case.weights, options=once))

        self.holds(law, self.cases())

    def test_law_13_of_what_one_input_alone_changes_as_much_is_taken_as_it_says(self) -> None:
        """So that a bias, which no strategy is asked for, and the delta beside it have one coefficient."""
        own = self.own
        if self.whole is None or isinstance(own, Whole):
            skip(f"`{self.strategy}` takes no input alone")
        options = {**self.options(), **self.whole, **({own.factor: 0.6} if own.factor else {})}

        def law(case: Case) -> None:
            op, (weight, other) = case.ops[0], case.weights[:2]
            # absent under its own number: what is known of the inputs (Gram matrices) is alike
            found = self.made([op], [weight], absent=[(0, other)], options=options)
            if own.normalize:
                weight, other = weight / (weight + other), other / (weight + other)
            assert_alike(found, own.alone(weight, other, own.config(options)) * op.dense(double()))

        self.holds(law, self.cases())

    def test_law_14_the_files_that_it_reads_are_named_by_texts_of_its_configuration(self) -> None:
        if not self.own.files:
            skip(f"`{self.strategy}` reads no files")
        config: Any = self.own.Config
        assert {hints(config).get(field) for field in self.own.files} == {str}


def _equal(one: Tensor, two: Tensor) -> bool:
    import torch

    return torch.equal(one, two)


def assert_alike(found: Tensor, wanted: Tensor, to: float = CLOSE) -> None:
    """Equal to `to`, relative to the largest value wanted."""
    assert found.shape == wanted.shape
    scale = float(wanted.abs().max())
    worst = float((found - wanted).abs().max())
    assert worst <= to * max(scale, 1e-30), f"differs by {worst:.2e}, the largest value wanted is {scale:.2e}"
