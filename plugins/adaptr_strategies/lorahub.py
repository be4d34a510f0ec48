"""LoraHub: D = Σ w D_i, with w searched without gradients: least loss on a few examples + `l1` mean |w|.  Huang et al.
2023, arXiv:2307.13269.

`data`: a file with a JSON object a line, {"text": ...} or {"prompt": ..., "completion": ...}; the loss is that of the
completion, or of all the text. Wants the base (`--base`). Starts from no weight at all, with `steps` looks and weights
within +-`bound`: the paper's numbers. Deltas are added, where the paper adds factors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from adaptr.algebra.operator import Operator
from adaptr.errors import BadConfig, phrases
from adaptr.strategies.base import Operators, Place, Strategy, Weights, beside, weighted


@dataclass(frozen=True)
class Config:
    data: str = ""
    steps: int = 40
    bound: float = 1.5
    l1: float = 0.05


class LoraHub(Strategy[Config]):
    name = "lorahub"
    linear = True
    searches = True
    files = frozenset({"data"})
    ordered = "the search turns to one input after the other, and ends after `steps` looks"

    def check(self, cfg: Config) -> None:
        if not cfg.data:
            raise BadConfig(
                "strategy `lorahub`",
                verb="has",
                got="no `data`",
                want="a file with examples, a JSON object a line",
                hint="give it by `--set data=FILE`",
            )
        if cfg.steps < 1 or cfg.bound <= 0 or cfg.l1 < 0:
            raise BadConfig(
                "strategy `lorahub`",
                verb="has",
                got=f"`steps` {cfg.steps}, `bound` {cfg.bound}, `l1` {cfg.l1}",
                want="`steps` and `bound` above 0, `l1` from 0",
            )

    def combine(self, ops: Operators, weights: Weights, cfg: Config, place: Place) -> Operator:
        return beside([weighted(ops, weights)])

    def search(self, loss: Callable[[Sequence[float]], float], count: int, cfg: Config) -> list[float]:
        """The best weights seen. `loss`: of a tuple of `count` weights."""
        try:
            from scipy.optimize import minimize
        except ImportError as error:
            raise phrases.extra("searching weights", "scipy", "search") from error
        seen: dict[tuple[float, ...], float] = {}

        def score(point: Iterable[float]) -> float:
            at = tuple(float(w) for w in point)
            if at not in seen and len(seen) < cfg.steps:
                seen[at] = loss(at) + cfg.l1 * sum(map(abs, at)) / count
            return seen.get(at, float("inf"))

        bounds = [(-cfg.bound, cfg.bound)] * count
        score([0.0] * count)
        minimize(score, [0.0] * count, method="COBYQA", bounds=bounds, options={"maxfev": cfg.steps})
        best: tuple[float, ...] = min(seen, key=lambda at: seen[at])
        return list(best)
