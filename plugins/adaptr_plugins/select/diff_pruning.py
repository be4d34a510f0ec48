"""Diff pruning: W' = W + z ∘ D, z = min(1, max(0, 1.5 (2 σ(log u - log(1 - u) + a) - 1))).  Guo et al. 2021,
arXiv:2012.07463.

Hard-concrete gates z, drawn anew for each forward in training, of each number and, with `structured`, of each tensor,
the two multiplied. First D and a are trained with `l0` times the expected number of gates that are open: of the two
sorts summed, as in the authors' code; the paper's is of their product ([M]). Then z is drawn once, z ∘ D becomes D, the
`share` of it that is largest, of all together, is kept, and these alone are trained on from where they are.

Choose it where a task's change should be as few numbers as possible, and training may cost what it will: two numbers
are trained for each of the base's, in two phases. Where memory is short it fails; `fish-mask` chooses beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr import Dense, Operator, Param
from adaptr.contract import Group, Live, Phase
from adaptr.families.masked import Masked, Masking

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.host import Session

#: Bounds of u, of the stretched gate, and what a gate is set to that is open for ever.
LEAST, REACH, OPEN = 1e-4, 1.5, 100.0
GATES = ("a", "g")


@dataclass(frozen=True)
class Config(Masking):
    l0: float = 1.25e-7
    structured: bool = True


class DiffPruning(Masked[Config]):
    name = "diff-pruning"
    params = {
        **Masked.params,
        "a": Param("*e out *i *k", init="fill:5", unless="finished"),
        "g": Param("1", init="fill:5", when="structured", unless="finished"),
    }
    as_stored = False
    averages = False

    def delta(self, p: Live, cfg: Config) -> Operator:
        if cfg.finished:
            return super().delta(p, cfg)
        return Dense(p["D"] * self.gates(p, p.training))

    def gates(self, p: Live, draws: bool) -> Tensor:
        """z of each number; where nothing is drawn, at u = 1/2."""
        z = [gate(p[name], draws) for name in GATES if name in p]
        return z[0] * z[1] if len(z) > 1 else z[0]

    # ------------------------------------------------------------ training

    def phases(self, cfg: Config) -> Sequence[Phase]:
        return (Phase("train"),) if cfg.finished else (Phase("gates"), Phase("fixed"))

    def groups(self, session: Session) -> list[Group]:
        """Gates learn 2,000 times as fast as numbers."""
        gates = [p for key, p in session.named().items() if key.rpartition(":")[2] in GATES]
        mine = {id(p) for p in gates}
        rest = [p for p in session.parameters() if id(p) not in mine]
        return [Group(rest, decay=0.0), *([Group(gates, rate=2000.0, decay=0.0)] if gates else [])]

    def penalty(self, session: Session) -> Tensor | float:
        cfg = self.config(session.adapter.config)
        if session.phase or cfg.finished:
            return 0.0
        gates = [p for key, p in session.named().items() if key.rpartition(":")[2] in GATES]
        return cfg.l0 * sum(p.float().sigmoid().sum() for p in gates)

    def begin(self, session: Session, phase: str) -> None:
        import torch

        scores = {}
        with torch.no_grad():
            for state in session.states.values():
                state["D"].mul_(self.gates(state, True).to(state["D"].dtype))
                scores[state.key("D")] = state["D"].abs()
                for name in GATES:
                    if name in state:
                        state[name].fill_(OPEN)
        total = sum(score.numel() for score in scores.values())
        self.choose(session, scores, round(self.config(session.adapter.config).share * total))


def gate(a: Tensor, draws: bool) -> Tensor:
    """The hard-concrete gates of a, in [0, 1]."""
    import torch

    if draws:
        u = torch.rand_like(a).clamp(LEAST, 1 - LEAST)
        a = a + u.log() - (1 - u).log()
    return (a.sigmoid() * (2 * REACH) - REACH).clamp(0, 1)
