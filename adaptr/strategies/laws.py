"""The laws that every composition strategy keeps, as a pytest class. A strategy's author writes:

    import adaptr.testing

    class TestMine(adaptr.testing.StrategyLaws):
        strategy = "mine"

and gets a test a law, on small deltas that hypothesis draws. What the strategy declares of itself (`ordered`, `jumps`,
`scale_free`, `diluted`, `by_factors`, `factor`) says which laws are for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from adaptr import strategies
from adaptr.adapter import Adapter, Target, kinds
from adaptr.algebra.operator import Operator
from adaptr.contract.settings import hints
from adaptr.errors import AdaptrError, BadConfig, Unsupported
from adaptr.strategies import cases
from adaptr.strategies.base import Place, Strategy
from adaptr.strategies.cases import HOSTILE, KINDS, SHAPES, Case
from adaptr.strategies.whole import Whole

if TYPE_CHECKING:
    from torch import Tensor

#: Of results in fp32, relative to the largest value.
CLOSE = 2e-5
EXAMPLES = 8


def skip(reason: str) -> NoReturn:
    """What does not apply is skipped with its reason."""
    import pytest

    pytest.skip(reason)


class StrategyLaws:
    """One test a law. `config`: what the strategy is tried with. `whole`: with which configuration one input at weight
    1 is itself, None where with none.
    """

    strategy: ClassVar[str]
    config: ClassVar[Mapping[str, Any]] = {}
    whole: ClassVar[Mapping[str, Any] | None] = {}
    #: Weights that are tried.
    strengths: ClassVar[Sequence[float]] = (1.0, 0.5, 0.3, 2.0, 0.7)
    refused: ClassVar[Sequence[float]] = (-0.4, -1.0)
    #: Ranks of the deltas.
    ranks: ClassVar[Sequence[int]] = (1, 2, 3)

    # ------------------------------------------------------------ what the laws are tried on

    def options(self) -> Mapping[str, Any]:
        """The configuration, where it is not known before the test runs."""
        return self.config

    @property
    def own(self) -> Strategy:
        return strategies.get(self.strategy)

    def made(
        self,
        ops: Sequence[Operator],
        weights: Sequence[float],
        numbers: Sequence[int] = (),
        absent: Sequence[tuple[int, float]] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """The result as a dense tensor, fp64. `numbers`: those of the inputs, which go with them."""
        own, numbers = self.own, tuple(numbers) or tuple(range(len(ops)))
        cfg = own.config(self.options() if options is None else options)
        if own.normalize:
            total = math.fsum([*weights, *(weight for _, weight in absent)])
            weights = [weight / total for weight in weights]
        if isinstance(own, Whole):
            return self.values(own.whole([self.adapter(op) for op in ops], weights, cfg))
        place = Place("here", 0, numbers, tuple(f"input {n}" for n in numbers), tuple(absent))
        return own.make(ops, weights, cfg, place, self.rank(ops), None).operator.dense(_double())

    def rank(self, ops: Sequence[Operator]) -> int | None:
        """What the result is cut to, where the strategy wants that: nothing."""
        return min(ops[0].size) if self.own.rank_wanted else None

    def adapter(self, op: Operator) -> Adapter:
        """An adapter without deltas that has the numbers of one, for strategies on whole adapters: a prompt."""
        P = op.dense()
        config = {"tokens": len(P), "rows": len(P)}
        return Adapter("prompt", config, {"": Target("", kinds.MODEL, (P.shape[1],), config)}, {":P": P})

    def values(self, adapter: Adapter) -> Tensor:
        (tensor,) = adapter.tensors.values()
        return tensor.double()

    def cases(self, kinds: Sequence[str] = KINDS, strengths: Sequence[float] = ()) -> Any:
        """A hypothesis strategy of cases that this strategy takes."""
        from hypothesis import strategies as st

        own = self.own
        count = st.integers(max(own.least, 2), own.most or 3)
        weights = count.flatmap(lambda n: st.tuples(*[st.sampled_from(list(strengths or self.strengths))] * n))
        ranks = st.tuples(*[st.sampled_from(list(self.ranks))] * 3)
        shapes, seeds = st.sampled_from(SHAPES), st.integers(0, 999)
        return st.builds(cases.drawn, weights, ranks, shapes, st.sampled_from(kinds), seeds)

    def holds(self, law: Callable[[Case], None], cases: Any, examples: int = EXAMPLES) -> None:
        """Try a law on cases, the same at each run, but for those that the strategy says are none of its own."""
        from hypothesis import HealthCheck, assume, given, settings

        def tried(case: Case) -> None:
            try:
                law(case)
            except Unsupported:
                assume(False)

        slow = list(HealthCheck)
        quiet = settings(
            max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=slow
        )
        quiet(given(cases)(tried))()  # type: ignore[no-untyped-call]

    # ------------------------------------------------------------ the laws

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
                scaled = [op * by if self.own.by_factors else cases.times(op, by) for op in case.ops]
                found = self.made(scaled, case.weights)
                assert_alike(found / by, self.made(case.ops, case.weights))

        self.holds(law, self.cases())

    def test_law_7_one_input_is_itself(self) -> None:
        if self.whole is None or self.own.least > 1:
            skip(f"`{self.strategy}` is never one input itself")
        options = {**self.options(), **self.whole}

        def law(case: Case) -> None:
            op = case.ops[0]
            assert_alike(self.made([op], [1.0], options=options), op.dense(_double()))

        self.holds(law, self.cases())

    def test_law_8_a_delta_of_zero_is_none(self) -> None:
        if isinstance(self.own, Whole):
            skip(f"`{self.strategy}` takes whole adapters, not deltas")

        def law(case: Case) -> None:
            last = len(case.ops) - 1
            zero = cases.times(case.ops[last], 0.0)
            found = self.made([*case.ops[:last], zero], case.weights)
            weights = case.weights[:last]
            assert_alike(found, self.made(case.ops[:last], weights, absent=[(last, case.weights[last])]))

        self.holds(law, self.cases())

    def test_law_9_how_a_delta_is_written_is_nothing(self) -> None:
        if self.own.by_factors or isinstance(self.own, Whole):
            skip(f"`{self.strategy}` looks at factors or tensors, not at what they make")

        def law(case: Case) -> None:
            for written in (cases.dense, cases.rescaled):
                found = self.made([written(op) for op in case.ops], case.weights)
                assert_alike(found, self.made(case.ops, case.weights))

        self.holds(law, self.cases())

    def test_law_10_of_experts_each_has_its_own_or_is_refused(self) -> None:
        if isinstance(self.own, Whole):
            skip(f"`{self.strategy}` takes whole adapters, not deltas")

        def law(case: Case) -> None:
            stacks = [cases.stacked(op) for op in case.ops]
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
            assert_alike(found, own.alone(weight, other, own.config(options)) * op.dense(_double()))

        self.holds(law, self.cases())

    def test_law_14_the_files_that_it_reads_are_named_by_texts_of_its_configuration(self) -> None:
        if not self.own.files:
            skip(f"`{self.strategy}` reads no files")
        config: Any = self.own.Config
        assert {hints(config).get(field) for field in self.own.files} == {str}


def _double() -> Any:
    import torch

    return torch.float64


def _equal(one: Tensor, two: Tensor) -> bool:
    import torch

    return torch.equal(one, two)


def assert_alike(found: Tensor, wanted: Tensor, to: float = CLOSE) -> None:
    """Equal to `to`, relative to the largest value wanted."""
    assert found.shape == wanted.shape
    scale = float(wanted.abs().max())
    worst = float((found - wanted).abs().max())
    assert worst <= to * max(scale, 1e-30), f"differs by {worst:.2e}, the largest value wanted is {scale:.2e}"
