"""What the laws of a strategy are tried with: its results on deltas that hypothesis draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr import strategies
from adaptr.adapter import Adapter, Target, kinds
from adaptr.algebra.operator import Operator
from adaptr.errors import Unsupported
from adaptr.strategies.base import Place, Strategy
from adaptr.strategies.whole import Whole
from adaptr.testing import deltas
from adaptr.testing.deltas import KINDS, SHAPES, Case

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy
    from torch import Tensor

EXAMPLES = 8


class Trial:
    """What a strategy is tried with. `config`: its own. `whole`: with which configuration one input at weight
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
        return own.make(ops, weights, cfg, place, self.rank(ops), None).operator.dense(double())

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

    def cases(self, kinds: Sequence[str] = KINDS, strengths: Sequence[float] = ()) -> SearchStrategy[Case]:
        """A hypothesis strategy of cases that this strategy takes."""
        from hypothesis import strategies as st

        own = self.own
        count = st.integers(max(own.least, 2), own.most or 3)
        weights = count.flatmap(lambda n: st.tuples(*[st.sampled_from(list(strengths or self.strengths))] * n))
        ranks = st.tuples(*[st.sampled_from(list(self.ranks))] * 3)
        shapes, seeds = st.sampled_from(SHAPES), st.integers(0, 999)
        return st.builds(deltas.drawn, weights, ranks, shapes, st.sampled_from(kinds), seeds)

    def holds(self, law: Callable[[Case], None], cases: SearchStrategy[Case], examples: int = EXAMPLES) -> None:
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
        quiet(given(cases)(tried))()


def double() -> torch.dtype:
    import torch

    return torch.float64
