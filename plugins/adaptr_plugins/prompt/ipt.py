"""Intrinsic prompt tuning: the model reads [P; E(x)], P = D2 tanh(D1 z + d1) + d2, z (intrinsic) alone trained.  Qin et
al. 2021, arXiv:2110.07867.

The decoder D is what prompts of many tasks share. Over trained prompts (`over`) it is fitted, with an encoder that is
not kept, to give them back; with `stage="subspace"` both then learn more of records that say in a column `task` whose
they are, by a prompt's name: the base's loss with what comes back, and `alpha` times how far that is from the prompt
(200 as in the paper's code). What it leaves begins at the mean of the codes, and training that goes on from it is the
paper's second phase. Without prompts D is random, and stays so. `finish` leaves P alone, and so does `adaptr convert
--method prompt`, from which training goes on as in the last phase. Not the identity when fresh: tokens in front are
read.

Choose it for tasks with a few records beside many like it whose prompts are there: some ten numbers are hard to
overfit. While it trains the decoder is there, thousands of times what is trained. It can't be merged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Param, SoftPrompt, Target
from adaptr.contract import Costs, Live, Run
from adaptr.errors import UsageError
from adaptr_plugins.prompt._sources import fronts, staged, tasks_of, ungiven
from adaptr_plugins.prompt._subspace import LEARNS, STAYS, codes, decoded, fit

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter
    from adaptr.host import Session


@dataclass(frozen=True)
class Config:
    tokens: int = 20
    intrinsic: int = 10
    hidden: int = 768
    steps: int = 1000
    stage: Literal["task", "subspace"] = "task"
    alpha: float = 200.0
    sources: list[str] = field(default_factory=list)


class IPT(SoftPrompt[Config]):
    name = "ipt"
    params = {
        "P": Param("tokens d", unless="intrinsic"),
        "z": Param("intrinsic", init="normal:0.02", when="intrinsic", unless="sources"),
        "D1": Param("hidden intrinsic", when="intrinsic", unless="sources", trains=False),
        "d1": Param("hidden", when="intrinsic", unless="sources", trains=False),
        "D2": Param("tokens d hidden", when="intrinsic", unless="sources", trains=False),
        "d2": Param("tokens d", when="intrinsic", unless="sources", trains=False),
        # while the subspace is learned: the prompts, the encoder and the decoder
        "S": Param("given tokens d", when="intrinsic sources", trains=False),
        "E": Param("intrinsic tokens d", when="intrinsic sources"),
        "e": Param("intrinsic", when="intrinsic sources"),
        "F1": Param("hidden intrinsic", when="intrinsic sources"),
        "f1": Param("hidden", when="intrinsic sources"),
        "F2": Param("tokens d hidden", when="intrinsic sources"),
        "f2": Param("tokens d", when="intrinsic sources"),
    }
    least = {"intrinsic": 0}
    plain = {"intrinsic": 0, "stage": "task", "sources": []}
    small = {"tokens": 3, "intrinsic": 4, "hidden": 8}

    def init_rule(self, param: str, target: Target) -> str:
        """Of the decoder as torch begins it."""
        if param in {"P", "z"}:
            return self.params[param].init
        return f"kaiming:{target.config['intrinsic' if param[1:] == '1' else 'hidden']}"

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        if values.get("stage") == "subspace" or values.get("sources"):
            raise ungiven(self.name)
        return values

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        return {"given": len(cfg.sources)}

    def sources(self, cfg: Config) -> Sequence[str]:
        return cfg.sources

    def prompt(self, p: Live, cfg: Config) -> Tensor:
        tasks = tasks_of(p) if cfg.sources else None
        return self.front(p, cfg)["P"] if tasks is None else decoded(p, codes(p)[tasks])

    def front(self, p: Live, cfg: Config) -> dict[str, Tensor]:
        """Of several that are learned what is kept of them."""
        if cfg.sources:
            return {"P": decoded(p, codes(p).mean(0))}
        return {"P": p.derived("P", p.sources(1.0), lambda: decoded(p, p["z"])) if cfg.intrinsic else p["P"]}

    def costs(self, target: Target, cfg: Config) -> Costs:
        return Costs(longer=cfg.tokens)

    def over(self, model: nn.Module | None, children: Adapter, config: Mapping[str, Any], seed: int = 0) -> Adapter:
        """A fresh one whose decoder gives the children's prompts. Raises `Unsupported` for what is none of a length."""
        import torch

        if model is None:
            raise UsageError("`ipt` is made for a model, and none was given", hint="give it as the first argument")
        S = fronts(self.name, children, config)
        config = {**config, "tokens": S.shape[1]}
        made = self.create(model, None, {**config, "stage": "task"}, None, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            decoder, (E, e) = fit(made.tensors, S, made.config["steps"])
        if config.get("stage") == "subspace":
            learns = dict(zip(LEARNS, decoder.values(), strict=True))
            given = {"stage": "subspace", "sources": list(children.parts)}
            made = staged(made, given, {**learns, "S": S, "E": E.view(-1, *S.shape[1:]), "e": e})
        else:
            made = staged(made, {}, {**made.at(""), **decoder})
        return made.replace(lineage=children.lineage)

    def objective(self, session: Session, run: Run) -> Tensor:
        loss, cfg = super().objective(session, run), self.config(session.adapter.config)
        if not cfg.sources:
            return loss
        p = next(iter(session.states.values()))
        return loss + cfg.alpha * (decoded(p, codes(p)) - p["S"]).square().mean()

    def finish(self, session: Session, adapter: Adapter) -> Adapter:
        """Of a subspace its decoder, and the mean of what it was learned of, to begin at."""
        if not self.config(adapter.config).sources:
            return super().finish(session, adapter)
        found = adapter.at("")
        decoder = {name: found[theirs] for name, theirs in zip(STAYS, LEARNS, strict=True)}
        made = staged(adapter, {"stage": "task", "sources": []}, {"z": codes(found).mean(0), **decoder})
        return made.remembering({})
