"""Multitask prompt tuning: the model reads [P o (U V); E(x)], P (tokens, d) of all tasks, U (tokens, r) and V (r, d) of
one.  Wang et al. 2023, arXiv:2303.02861.

Over trained prompts of source tasks (`over`) it is the source's stage: each record says in a column `task` whose it is,
by the prompt's name, and P is learned of all of them, U and V of each, by the loss and `distill` times how far that
prompt, the teacher, is: KL of what is predicted and the squared distance of the last layer's states. This weight, and
that of these states, is not confirmed. Batches mix tasks as the data does, and draw none. It leaves P and the means of
U and V, from which the target's stage goes on: P, U and V of one task learn together. U V is one everywhere at first;
PEFT draws both near zero, which makes the prompt vanish. There `finish` leaves the product, as in the paper. PEFT's
files hold all tasks: which is meant is asked for. Not the identity when fresh: tokens in front are read.

Choose it over `prompt` for a task with few records beside many like it, begun from a prompt that those share. It costs
what a prompt costs, and a row and a column for each task; of the source's stage a step costs one forward more. It can't
be merged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptr import Param, Target
from adaptr.contract import Costs, Live, Run
from adaptr.errors import BadConfig, UsageError
from adaptr_plugins.prompt._sources import distilled, fronts, staged, tasks_of, taught, ungiven
from adaptr_plugins.prompt.prompt import Config as PromptConfig
from adaptr_plugins.prompt.prompt import Prompt

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter
    from adaptr.host import Session


@dataclass(frozen=True)
class Config(PromptConfig):
    r: int = 1
    tasks: int = 1
    task: int = 0
    factored: bool = True
    distill: float = 0.9
    sources: list[str] = field(default_factory=list)


class MPT(Prompt):
    name = "mpt"
    Config = Config
    params = {
        "P": Prompt.params["P"],
        "U": Param("tasks rows r", init="ones", when="factored"),
        "V": Param("tasks r d", when="factored"),
        "T": Param("tasks rows d", when="sources", trains=False),
    }
    plain = {"factored": False, "r": 1, "tasks": 1, "task": 0, "sources": []}

    def complete(self, model: nn.Module, values: dict[str, Any], places: Sequence[Target]) -> dict[str, Any]:
        if values.get("sources"):
            raise ungiven(self.name)
        return super().complete(model, values, places)

    def init_rule(self, param: str, target: Target) -> str:
        return f"fill:{1 / target.config['r']}" if param == "V" else super().init_rule(param, target)

    def axes(self, target: Target, cfg: PromptConfig) -> dict[str, int]:
        task, tasks, sources = (vars(cfg)[name] for name in ("task", "tasks", "sources"))
        if not 0 <= task < tasks:
            raise BadConfig("`mpt`: `task`", got=task, want=f"one of {tasks} from 0 on")
        if sources and len(sources) != tasks:
            raise BadConfig("`mpt`: `tasks`", got=tasks, want=f"{len(sources)}, as many as there are `sources`")
        return super().axes(target, cfg)

    def sources(self, cfg: PromptConfig) -> Sequence[str]:
        found: list[str] = vars(cfg)["sources"]
        return found

    def over(self, model: nn.Module | None, children: Adapter, config: Mapping[str, Any], seed: int = 0) -> Adapter:
        """A fresh one whose teachers are the children."""
        if model is None:
            raise UsageError("`mpt` is made for a model, and none was given", hint="give it as the first argument")
        T = fronts(self.name, children, config)
        made = self.create(model, None, {**config, "tokens": T.shape[1], "tasks": len(T)}, None, seed)
        given = {"sources": list(children.parts)}
        return staged(made, given, {**made.at(""), "T": T}).replace(lineage=children.lineage)

    def prompt(self, p: Live, cfg: PromptConfig) -> Tensor:
        tasks = tasks_of(p) if self.sources(cfg) else None
        if tasks is None:
            return self.front(p, cfg)["P"][: cfg.tokens]
        return p["T"][tasks] if taught(p) else p["P"] * (p["U"][tasks] @ p["V"][tasks])

    def front(self, p: Live, cfg: PromptConfig) -> dict[str, Tensor]:
        """All rows (rows, d); of several that are learned what is kept of them."""
        if "U" not in p:
            return {"P": p["P"]}
        U, V = ((p[name].mean(0) if self.sources(cfg) else p[name][vars(cfg)["task"]]) for name in "UV")
        return {"P": p["P"] * (U @ V)}

    def costs(self, target: Target, cfg: PromptConfig) -> Costs:
        return Costs(longer=cfg.tokens, once=2 * cfg.tokens * target.shape[0])

    def objective(self, session: Session, run: Run) -> Tensor:
        cfg = vars(self.config(session.adapter.config))
        if not cfg["sources"] or not cfg["distill"] or not session.said:
            return super().objective(session, run)
        loss, apart = distilled(session, run)
        return loss + float(cfg["distill"]) * apart

    def finish(self, session: Session, adapter: Adapter) -> Adapter:
        """Of the source's stage what the target's begins with."""
        if not self.sources(self.config(adapter.config)):
            return super().finish(session, adapter)
        found = adapter.at("")
        means = {name: found[name].mean(0, keepdim=True) for name in "UV"}
        return staged(adapter, {"tasks": 1, "task": 0, "sources": []}, {"P": found["P"], **means}).remembering({})
