"""Learn-to-Share: y = W x + D x~, D sparse, x~ of a task's own stream beside the base's.  Fu et al. 2021, ICML, PMLR
139, fu21a, arXiv id not confirmed.

A reconstruction (R), and experimental: of the paper the abstract alone was read, and there is no code. It says that
the base is fixed, that what a task adds reads what the base has computed, which all tasks share, that a differentiable
search decides what is shared, that a mask for the differences of weights is made before training begins, and 1.4 % of
the numbers, 49.5 % less to compute and 0.2 points less on GLUE.

All of the rest is ours. Each block runs once for the base and once more for the task, where each target gives the
product W x that it gave the first time, and D x~ of the task's own input; what lies between, and layers that are no
target, work on x~. D has a `share` of each weight: the places where its gradient over some first batches is largest, by
|g|, as |D g| is zero where D is. A block is computed for the task, or what the base put out is used again: in the first
half of training, the search, by a Gumbel-sigmoid at the temperature `tau` of one number c, straight through, with
`cost` times the mean of sigmoid(c) added to the loss; in the second half the choice is hard, and D begins at zero
again. All blocks' streams, weighed token by token as `attention-fusion` does it, stand in the last block's place; a
Bi-LSTM over pooled states is not here: the model's own head follows, and `also=["head"]` trains it.

Finished, blocks that are used again have no tensors. Fresh it is the mean of all blocks, and so not the identity. What
a merge of D alone would give is another model, and is not offered. Products by D are dense here, so that time is saved
where blocks are used again, and none in the others.

Choose it to try how little of a frozen encoder a task needs of its own, where many tasks share one pass of it. It can't
be merged, keeps for the backward what the blocks of the task keep, and its figures are not the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from adaptr import Param, Target, View
from adaptr.adapter import kinds
from adaptr.contract import Costs, Live, Mount, Phase
from adaptr.errors import BadConfig
from adaptr.families.side import Side
from adaptr_plugins.side import _course, _streams

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter
    from adaptr.contract import Run
    from adaptr.host import Session


@dataclass(frozen=True)
class Config(_streams.Config):
    """`n`: how many entries of a weight change."""

    share: float = 0.018
    cost: float = 0.1
    seed: int = 0
    n: int = 0


class LeTS(Side[Config]):
    name = "lets"
    formulas = ("block",)
    params = {
        "v": Param("n", when="n"),
        "i": Param("n", init="custom", trains=False, whole=True, when="n"),
        "c": Param("1", when="block", unless="finished"),
        "q": Param("d", when="last"),
    }
    kinds = frozenset({kinds.PLACE, kinds.LINEAR, kinds.LINEAR_T})
    targets = ("block_out", *_streams.LAYERS)
    least = {"n": 0}
    small = {"share": 0.1}

    def config(self, values: Mapping[str, Any]) -> Config:
        cfg = super().config(values)
        if not (0 < cfg.share <= 1 and cfg.tau > 0):
            got = f"{cfg.share} and {cfg.tau}"
            raise BadConfig("`lets`: `share` and `tau`", got=got, want="above 0, `share` at most 1")
        return cfg

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        return {**values, "depth": _streams.depth(model)}

    def together(self, model: nn.Module, targets: Sequence[Target]) -> Sequence[Target]:
        blocks = [one for one in targets if one.kind == kinds.PLACE]
        super().together(model, blocks)
        _streams.require_inside(targets, blocks)
        own = {one.path: {"block": True, "last": one is blocks[-1]} for one in blocks}
        said = {one.path: own.get(one.path) or self._sized(one) for one in targets}
        return [replace(one, config={**one.config, **said[one.path]}) for one in targets]

    def _sized(self, layer: Target) -> dict[str, int]:
        return {"n": max(1, round(self.config(layer.config).share * layer.shape[0] * layer.shape[1]))}

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        cfg = self.config(target.config)
        return {"i": _course.drawn(made["v"], target, cfg.seed)} if cfg.n else {}

    def costs(self, target: Target, cfg: Config) -> Costs:
        return _streams.costs(target, cfg)

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        _streams.require_depth(model, [self.config(target.config) for target in adapter.targets.values()])
        return [Mount(path, "block", context=True) for path in adapter.targets]

    def block(
        self,
        rest: Callable[..., object],
        module: nn.Module,
        p: Live,
        cfg: Config,
        weight: float,
        *args: object,
        **kwargs: object,
    ) -> object:
        if not cfg.block:
            return _streams.layer(rest, p, args, kwargs)
        return _streams.both(rest, p, cfg, weight, args, kwargs)

    def prepare(self, session: Session, data: Iterable[Run]) -> None:
        if not self.config(session.adapter.config).finished:
            _course.placed(session, data)

    def phases(self, cfg: Config) -> Sequence[Phase]:
        return (Phase("train"),) if cfg.finished else (Phase("search"), Phase("retrain"))

    def begin(self, session: Session, phase: str) -> None:
        _course.settled(session)

    def penalty(self, session: Session) -> Tensor | float:
        import torch

        found = [state["c"].sigmoid() for state in session.states.values() if "c" in state]
        if session.phase or not found:
            return 0.0
        return self.config(session.adapter.config).cost * torch.cat(found).mean()

    def finish(self, session: Session, adapter: Adapter) -> Adapter:
        done = self.config(adapter.config).finished
        return super().finish(session, adapter if done else _course.without_reused(adapter))
