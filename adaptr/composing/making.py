"""A composition at the level of deltas, target by target: a few at a time, so memory does not grow with the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.adapter import REPLACED, Adapter, Target
from adaptr.adapter.tensors import Tensors
from adaptr.adapter.weighting import Layers
from adaptr.algebra.dense import Dense
from adaptr.algebra.lowrank import LowRank
from adaptr.algebra.operator import Operator
from adaptr.bulk import workers
from adaptr.bulk.spool import Spool
from adaptr.changes.deltas import Deltas, deltas
from adaptr.composing import beside, parents
from adaptr.composing.parents import Parent
from adaptr.composing.recipe import Recipe
from adaptr.contract.capabilities import DENSE
from adaptr.errors import NonFinite, NotPossible, UsageError
from adaptr.precision import named
from adaptr.results.assemble import fitting, place, shared_config
from adaptr.results.storing import lost
from adaptr.strategies.base import ROUNDING, Made, Operators, Place, Strategy, Weights, apart

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.checkpoint import Checkpoint


class Work:
    """All targets of a composition on `base`, a checkpoint or a live model, where methods need one. `numbers`: the
    squared norms of what was made at each, without the operators.
    """

    def __init__(
        self, recipe: Recipe, strategy: Strategy, cfg: Any, given: Sequence[Parent], base: Checkpoint | nn.Module | None
    ) -> None:
        self.recipe, self.strategy, self.cfg, self.given = recipe, strategy, cfg, given
        self.deltas: list[Deltas] = [deltas(parent.adapter, base) for parent in given]
        #: Numbers of the inputs that count: at weight 0 one is as if not given.
        self.strong = [n for n, parent in enumerate(given) if parent.weight != 0]
        labels = [given[n].label for n in self.strong]
        self.targets = parents.joined_targets([list(self.deltas[n].targets.values()) for n in self.strong], labels)
        self.weight = weights(self.targets, recipe, strategy, given)
        self.numbers: dict[str, Made] = {}

    @property
    def alone(self) -> int:
        """How many targets not all inputs change."""
        return sum(not all(path in d.targets for _, d in _numbered(self)) for path in self.targets)

    def adapter(self, folder: Path | None, spooled: bool = True) -> Adapter:
        """The result, its tensors beside each other in memory if they are low-rank, or not to be `spooled`, else in a
        file in `folder`.
        """
        changed = [path for path in self.targets if any(path in d and self.weight(n, path) for n, d in _numbered(self))]
        choice = self.recipe.replaced
        shifts = beside.biases({n: d.biases for n, d in _numbered(self)}, self.weight, self.strategy, self.cfg, choice)
        whole = beside.replaced({n: d.replaced for n, d in _numbered(self)}, self.weight, choice, self.targets)
        if not changed and not shifts and not whole:
            raise UsageError(
                "all weights are zero: the result would change nothing", hint="give one of them another weight"
            )
        method = fitting(bool(changed), bool(shifts), self._low(changed))
        spool: dict[str, Tensor] | Spool = Spool(folder) if spooled and method == plugins.default(DENSE) else {}
        todo = [path for path in self.targets if path in changed or path in shifts]
        todo = sorted(todo, key=lambda path: -math.prod(self.targets[path].shape))  # big ones first

        dtype = named(self.recipe.dtype)

        def one(path: str) -> Target:
            if path not in changed:
                target, tensors = place(method, self.targets[path], None, shifts.get(path), dtype)
            else:
                ops, ours, where = self._here(path)
                made = self._made(ops, ours, where)
                target, tensors = place(method, self.targets[path], made.operator, shifts.get(path), dtype)
                stored = plugins.method(method).operator(target, Tensors(tensors))
                self.numbers[path] = self._measured(made, stored, ops, ours)
            for name, tensor in tensors.items():
                _put(spool, f"{path}:{name}", tensor)
            return target

        done = workers.run(one, todo)
        placed = {todo[i]: target for i, target in done.items()}
        for path, tensor in whole.items():
            _put(spool, f"{path}:{REPLACED}", tensor)
        chosen = {path: placed[path] for path in self.targets if path in placed}
        version = plugins.method(method).version
        return Adapter(method, shared_config(method, chosen), chosen, spool, version)

    def _here(self, path: str) -> tuple[list[Operator], list[float], Place]:
        """The deltas at a target, their weights and all else of it. An input at weight 0 counts as not given."""
        strong = {n: weight for n in range(len(self.given)) if (weight := self.weight(n, path))}
        there = [n for n in strong if path in self.deltas[n]]
        ops = [self.deltas[n][path] for n in there]
        for n, op in zip(there, ops, strict=True):
            _require_finite(op, self.given[n].label, path)
        named = tuple(self.given[n].weights for n in there)
        absent = tuple((n, weight) for n, weight in strong.items() if n not in there)
        return ops, [strong[n] for n in there], Place(path, self.recipe.seed, tuple(there), named, absent)

    def _made(self, ops: Operators, ours: Weights, where: Place) -> Made:
        """What the strategy makes at a target."""
        made = self.strategy.make(ops, ours, self.cfg, where, self.recipe.rank, self.recipe.energy)
        if not made.operator.finite():
            raise NonFinite(
                f"strategy `{self.strategy.name}` makes NaN or infinity at `{where.path}`, of inputs that hold "
                "none: their values are too large or too small for it",
                hint="use `linear`, or smaller weights",
            )
        return made

    def _measured(self, made: Made, stored: Operator, ops: Operators, ours: Weights) -> Made:
        """The numbers of what was made, with what storing it cost: truncated is orthogonal to rounded."""
        numbers: Made = replace(made, operator=None, exact=None)  # type: ignore[arg-type]
        if isinstance(stored, Dense) and self.recipe.dtype is None:
            return numbers  # stored as it was made
        exact = made.exact or made.operator
        size = made.size or exact.inner(exact)
        wrong = lost(exact, stored, size)
        numbers = replace(numbers, size=size, wrong=made.wrong + wrong)
        if not wrong:
            return numbers
        if self.strategy.linear:
            return replace(numbers, plain=made.plain or size, apart=made.apart + wrong)
        plain, gap = apart(stored, ops, ours)
        return replace(numbers, plain=plain, apart=gap)

    def _low(self, changed: Sequence[str]) -> bool:
        """Whether the result is low-rank: because it is cut, or because all inputs and the strategy are."""
        if self.recipe.rank is not None or self.recipe.energy is not None:
            return True
        sorts = [(d, {d.sort(path): path for path in changed if path in d}) for _, d in _numbered(self)]
        ops = (d[path] for d, found in sorts for path in found.values())
        return self.strategy.space != "elements" and all(is_low_rank(op) for op in ops)


def _numbered(work: Work) -> list[tuple[int, Deltas]]:
    """Number and deltas of the inputs that count."""
    return [(n, work.deltas[n]) for n in work.strong]


def _put(spool: dict[str, Tensor] | Spool, key: str, tensor: Tensor) -> None:
    if isinstance(spool, Spool):
        spool.put(key, tensor)
    else:
        spool[key] = tensor


def is_low_rank(op: Operator) -> bool:
    """Whether D has an exact low-rank form that is smaller than itself."""
    try:
        return isinstance(op, LowRank) or 2 * op.low_rank().rank <= min(op.size)
    except NotPossible:
        return False


def opened_base(base: Path | nn.Module | None) -> Checkpoint | nn.Module | None:
    """A base as deltas want it: checkpoints opened, models as they are."""
    if base is None or not isinstance(base, Path):
        return base
    from adaptr.checkpoint.open import open_checkpoint

    return open_checkpoint(base)


def weights(
    targets: Mapping[str, Target], recipe: Recipe, strategy: Strategy, given: Sequence[Parent]
) -> Callable[[int, str], float]:
    """From an input's number and a path to its strength there, divided by the sum of all where that is wanted."""
    layers = Layers(targets)
    normal = strategy.normalize if recipe.normalize is None else recipe.normalize

    def raw(number: int, path: str) -> float:
        return layers.weight(given[number].weight, path, given[number].label)

    def normalized(number: int, path: str) -> float:
        every = [raw(n, path) for n in range(len(given))]
        total = math.fsum(every)
        if abs(total) <= ROUNDING * sum(map(abs, every)):
            raise UsageError(
                f"the weights at `{path}` add up to zero, so they can't be divided by their sum",
                hint="leave out `--normalize`",
            )
        return raw(number, path) / total

    return normalized if normal else raw


def _require_finite(op: Operator, label: str, path: str) -> None:
    if not op.finite():
        raise NonFinite(f"`{label}` holds NaN or infinity at `{path}`", hint="look at it with `adaptr inspect`")
