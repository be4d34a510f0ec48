"""`Strategy`: several deltas of one target and their weights in, one delta out, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator
from adaptr.algebra.sum import Sum
from adaptr.algebra.truncate import truncated
from adaptr.contract import settings
from adaptr.contract.settings import C, Configured
from adaptr.errors import BadConfig, NotPossible, UsageError
from adaptr.precision import widest

if TYPE_CHECKING:
    import torch

Operators = Sequence[Operator]
Weights = Sequence[float]

#: What rounding in fp64 leaves where terms cancel, as a share of their sizes, with room for some thousand terms.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Place:
    """Where a strategy works.

    `path`: of the target. `seed`: of the composition. `inputs`: the number of each operator's input among all.
    `identities`: what names each operator's input wherever it stands. `absent`: number and weight of the inputs that do
    not change this target, which is a delta of zero.
    """

    path: str
    seed: int = 0
    inputs: tuple[int, ...] = ()
    identities: tuple[str, ...] = ()
    absent: tuple[tuple[int, float], ...] = ()

    def stream(self, number: int) -> str:
        """The name of the random stream for the `number`-th operator: it goes with the input, not with its place."""
        if self.identities:
            return f"{self.path}:{self.identities[number]}"
        return f"{self.path}:{self.inputs[number] if self.inputs else number}"


@dataclass(frozen=True)
class Made:
    """A composed delta, and squared Frobenius norms that its errors follow from.

    `size`, `wrong`: of the strategy's own exact result, and of what `operator` differs from it. `plain`, `apart`: of
    the plain weighted sum, and of what `operator` differs from that. `exact`: the strategy's own result, where
    `operator` is that but for rounding, which counts where large terms cancel.
    """

    operator: Operator
    size: float = 0.0
    wrong: float = 0.0
    plain: float = 0.0
    apart: float = 0.0
    exact: Operator | None = None


class Strategy(Configured[C]):
    """A way to combine deltas. Subclass this, `InCore`, `Elementwise` or `Whole`.

    `space`: where it works. `linear`: whether its exact result is the plain weighted sum. `random`: whether it draws
    numbers. `rank_wanted`: whether it means nothing without a rank or energy. `normalize`: whether weights are divided
    by their sum when nothing is said. `searches`: whether it finds the weights itself, on data, with `search`.
    `shares`: fields that are above 0 and up to 1. `files`: fields that name a file. `least`, `most`: how many adapters
    it takes (0: any number).

    What its formula says of inputs and weights, which `adaptr.testing.StrategyLaws` holds it to: `ordered`: why the
    order of the inputs matters, "" where it does not. `jumps`: why the result at a weight that goes to 0 is not that
    without the input, "" where it is. `scale_free`: whether a common scale of all weights changes nothing; else the
    result has that scale. `diluted`: whether inputs that don't change a target have their shares there. `by_factors`:
    whether it depends on how a delta is written as B A. `factor`: the field that the whole result is multiplied by.
    """

    name: ClassVar[str]
    space: ClassVar[str] = "factors"
    linear: ClassVar[bool] = False
    random: ClassVar[bool] = False
    rank_wanted: ClassVar[bool] = False
    normalize: ClassVar[bool] = False
    searches: ClassVar[bool] = False
    shares: ClassVar[frozenset[str]] = frozenset({"density", "common"})
    files: ClassVar[frozenset[str]] = frozenset()
    least: ClassVar[int] = 1
    most: ClassVar[int] = 0
    ordered: ClassVar[str] = ""
    jumps: ClassVar[str] = ""
    scale_free: ClassVar[bool] = False
    diluted: ClassVar[bool] = False
    by_factors: ClassVar[bool] = False
    factor: ClassVar[str] = ""

    def combine(self, ops: Operators, weights: Weights, cfg: C, place: Place) -> Operator:
        """The strategy's exact result at one target."""
        raise NotImplementedError

    def make(
        self, ops: Operators, weights: Weights, cfg: C, place: Place, rank: int | None, energy: float | None
    ) -> Made:
        """The result, cut to `rank` or `energy` where one is given, with its errors measured."""
        result = self.combine(ops, weights, cfg, place)
        if rank is None and energy is None:
            if self.linear:
                return Made(result, exact=weighted(ops, weights))
            return Made(result, 0.0, 0.0, *apart(result, ops, weights))
        low, error, size = truncated(result, rank, energy)
        wrong = size * error**2
        return Made(low, size, wrong, *((size, wrong) if self.linear else apart(low, ops, weights)))

    def alone(self, weight: float, others: float, cfg: C) -> float:
        """What is taken of a change that one input of this weight makes, others of the summed weight `others` not."""
        by: float = getattr(cfg, self.factor) if self.factor else 1.0
        if not self.scale_free or not weight:
            return by * weight
        return by * (self.proportions([weight], [others])[0] if self.diluted else math.copysign(1.0, weight))

    def proportions(self, weights: Weights, absent: Weights) -> list[float]:
        """Each weight's share of all, those of inputs that don't change a target counted. Raises `UsageError`."""
        every = [*weights, *absent]
        if min(every) < 0 or not sum(every):
            raise UsageError(f"`{self.name}` takes shares: weights {every}", want="none negative and not all 0")
        return [weight / sum(every) for weight in weights]

    def search(self, loss: Callable[[Sequence[float]], float], count: int, cfg: C) -> list[float]:
        """The weights that a strategy with `searches` finds. `loss`: of `count` weights, on its data."""
        raise NotImplementedError

    def config(self, values: Mapping[str, Any]) -> C:
        """`values` as a validated Config. Raises `BadConfig` for unknown fields, wrong types, values out of range."""
        made: C = settings.validated(f"strategy `{self.name}`", self.Config, values)
        for key, value in vars(made).items():
            if key in self.shares and not 0 < value <= 1:
                raise BadConfig(f"strategy `{self.name}`: `{key}`", got=value, want="above 0 and up to 1")
        self.check(made)
        return made

    def check(self, cfg: C) -> None:
        """Raises `BadConfig` for values that don't fit each other."""


class Combination(Strategy[C]):
    """A strategy whose exact result is Σ c D: at each target it chooses the coefficients alone."""

    def coefficients(self, ops: Operators, weights: Weights, cfg: C, place: Place) -> Weights:
        """The c at one target, one for each operator."""
        raise NotImplementedError

    def combine(self, ops: Operators, weights: Weights, cfg: C, place: Place) -> Operator:
        return weighted(ops, self.coefficients(ops, weights, cfg, place))

    def make(
        self, ops: Operators, weights: Weights, cfg: C, place: Place, rank: int | None, energy: float | None
    ) -> Made:
        """The terms are kept beside what is formed of them, as forming rounds each, and they may cancel."""
        if rank is not None or energy is not None:
            return super().make(ops, weights, cfg, place, rank, energy)
        exact = self.combine(ops, weights, cfg, place)
        result = beside([exact])
        return Made(result, 0.0, 0.0, *apart(result, ops, weights), exact=exact)


def apart(result: Operator, ops: Operators, weights: Weights) -> tuple[float, float]:
    """(‖S‖², ‖R - S‖²) for the plain weighted sum S = Σ w D."""
    plain = weighted(ops, weights)
    size = plain.inner(plain)
    return size, max(result.inner(result) - 2 * result.inner(plain) + size, 0.0)


def weighted(ops: Operators, weights: Weights) -> Operator:
    """Σ w D, kept as a sum."""
    found = [op * w for op, w in zip(ops, weights, strict=True)]
    return found[0] if len(found) == 1 else Sum(*found)


def beside(ops: Operators) -> Operator:
    """Σ D as one low-rank operator where all of them are, else as a sum."""
    total = ops[0] if len(ops) == 1 else Sum(*ops)
    try:
        return total.low_rank()
    except NotPossible:
        return total


def factored(op: Operator) -> LowRank:
    """D as B A: its own factors, or itself times the identity of its smaller side where it has none."""
    try:
        return op.low_rank()
    except NotPossible:
        pass
    import torch

    # formed in fp64: rounding to less would give D directions of its own, which are as good as others to a spectrum
    D = op.dense(torch.float64).flatten(2 if op.experts else 1)
    n = min(op.size)
    eye = torch.eye(n, dtype=D.dtype).expand(*D.shape[:-2], n, n)
    B, A = (D, eye) if op.size[1] == n else (eye, D)
    return LowRank.of(B.contiguous(), A.contiguous(), op.shape, op.experts)


def own_dtype(ops: Operators) -> torch.dtype:
    """The widest dtype of the operators, at least fp32: what a result is stored in."""
    return widest(*(op.dtype for op in ops))
