"""Multitask prompt tuning: the model reads [P o (U V); E(x)], P (tokens, d) of all tasks, U (tokens, r) and V (r, d) of
one.  Wang et al. 2023, arXiv:2303.02861.

Here is the target's stage: P, U and V of one task learn together, P from another prompt where training goes on from
one. U V is one everywhere at first, so that the start is P; PEFT draws both near zero, which makes the prompt vanish.
The source's stage, teachers distilled into one P over sampled tasks, is not here; `compose` with `average` gives a P of
several prompts. `finish` leaves the product, as in the paper. PEFT's files hold all tasks: which is meant is asked for.
Not the identity when fresh: tokens in front are read.

Choose it over `prompt` for a task with few records beside many like it, begun from a prompt that those share. It costs
what a prompt costs, and a row and a column for each task. It can't be merged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr import Param, Target
from adaptr.contract import Costs, Live
from adaptr.errors import BadConfig
from adaptr_plugins.prompt.prompt import Config as PromptConfig
from adaptr_plugins.prompt.prompt import Prompt

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config(PromptConfig):
    r: int = 1
    tasks: int = 1
    task: int = 0
    factored: bool = True


class MPT(Prompt):
    name = "mpt"
    Config = Config
    params = {
        "P": Prompt.params["P"],
        "U": Param("tasks rows r", init="ones", when="factored"),
        "V": Param("tasks r d", when="factored"),
    }
    plain = {"factored": False, "r": 1, "tasks": 1, "task": 0}

    def init_rule(self, param: str, target: Target) -> str:
        return f"fill:{1 / target.config['r']}" if param == "V" else super().init_rule(param, target)

    def axes(self, target: Target, cfg: PromptConfig) -> dict[str, int]:
        task, tasks = vars(cfg)["task"], vars(cfg)["tasks"]
        if not 0 <= task < tasks:
            raise BadConfig("`mpt`: `task`", got=task, want=f"one of {tasks} from 0 on")
        return {}

    def prompt(self, p: Live, cfg: PromptConfig) -> Tensor:
        return self.front(p, cfg)["P"][: cfg.tokens]

    def front(self, p: Live, cfg: PromptConfig) -> dict[str, Tensor]:
        """All rows (rows, d)."""
        task = vars(cfg)["task"]
        return {"P": p["P"] * (p["U"][task] @ p["V"][task]) if "U" in p else p["P"]}

    def costs(self, target: Target, cfg: PromptConfig) -> Costs:
        return Costs(longer=cfg.tokens, once=2 * cfg.tokens * target.shape[0])
