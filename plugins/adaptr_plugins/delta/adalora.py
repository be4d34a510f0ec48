"""AdaLoRA: W' = W + s B diag(E) A, s = alpha / n.  Zhang et al. 2023, arXiv:2303.10512.

E starts at zero and is pruned while training: after each step the importance of each triplet (a column of B, an entry
of E, a row of A) is updated, and every `interval` steps those with the smallest are set to zero, from step `tinit` on
until `target_r` a target is left on average; in the last `tfinal` of all `steps` the choice is fixed. The scale keeps
the rank n that training began with (`begun`), whatever is pruned. Orthogonality of B and A is asked for by a penalty.
A pruned adapter is plain LoRA of the rank that is left.

Choose it where one budget of ranks should find the layers that need it, in a long training whose number of steps is
known. It costs more than LoRA in each step, begins at a higher rank than it ends with, and in a short training has no
time to prune: plain LoRA does as well there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Delta, LowRank, Param, Target
from adaptr.contract import Costs, Live
from adaptr.errors import BadConfig
from adaptr.families import sensitivity
from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.host import Session

#: Beside n, as the authors and PEFT have it, so that files give the same numbers there.
EPSILON = 1e-5


#: What a target's choice of triplets is remembered under.
KEPT = ":kept"


@dataclass(frozen=True)
class Config:
    r: int = 12
    alpha: float = 16.0
    begun: int = 0
    dropout: float = 0.0
    target_r: int = 8
    tinit: int = 0
    tfinal: int = 0
    interval: int = 1
    steps: int = 0
    beta1: float = 0.85
    beta2: float = 0.85
    orthogonal: float = 0.5


class AdaLoRA(Delta[Config]):
    name = "adalora"
    params = {
        "A": Param("r in *k", init="normal:0.02"),
        "B": Param("out r", init="normal:0.02"),
        "E": Param("r 1"),
    }
    kinds = frozenset({"linear", "linear_t", "embedding", "conv1d", "conv2d", "conv3d"})
    targets = ("all-linear",)
    portable = True
    least = {"r": 0, "begun": 0}

    def config(self, values: Mapping[str, Any]) -> Config:
        cfg = super().config(values)
        if cfg.steps and not (0 <= cfg.tinit < cfg.steps - cfg.tfinal <= cfg.steps and cfg.interval > 0):
            raise BadConfig(
                f"`adalora`: `tinit`={cfg.tinit} and `tfinal`={cfg.tfinal} leave nothing of `steps`={cfg.steps} "
                f"to prune in, or `interval`={cfg.interval} is not positive",
                hint="choose `tinit` + `tfinal` below `steps`, and `interval` from 1",
            )
        return cfg

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {"begun": values.get("r", 12), **values}

    def delta(self, p: Live, cfg: Config) -> LowRank:
        A, B = p["A"], p["B"]
        scale = cfg.alpha / ((cfg.begun or cfg.r) + EPSILON)
        return LowRank.of(B, A.flatten(1) * p["E"], (len(B), *A.shape[1:])) * scale

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        if not target.is_linear or cfg.dropout:
            return None
        return Costs(True, token=cfg.r, once=cfg.r * target.shape[1], flops=2 * cfg.r * sum(target.shape))

    # ------------------------------------------------------------ training

    def penalty(self, session: Session) -> Tensor | float:
        """γ times the mean of ‖PᵀP - I‖ and ‖QQᵀ - I‖ over all B and A, Frobenius, as in PEFT."""
        import torch

        sides = [wide(M) for state in session.states.values() for M in (state["B"].mT, state["A"].flatten(1))]
        found = [(M @ M.mT - torch.eye(len(M), device=M.device, dtype=M.dtype)).norm() for M in sides]
        gamma: float = self.config(session.adapter.config).orthogonal
        return gamma * torch.stack(found).mean()

    def after_step(self, session: Session) -> None:
        """Update importances from the gradients, and prune when the schedule says so; nothing without `steps`."""
        cfg = self.config(session.adapter.config)
        if not cfg.steps:
            return
        t, last = session.steps, cfg.steps - cfg.tfinal
        if t < last:
            sensitivity.weigh(session, cfg.beta1, cfg.beta2)
        if t == last or (t < last and t % cfg.interval == 0):
            kept = self._kept(session, self._budget(session, cfg, t))
            session.memory.update({path + KEPT: mask for path, mask in kept.items()})
        if t >= last or t % cfg.interval == 0:
            self._mask(session)

    def remembered(self, session: Session) -> Mapping[str, Tensor]:
        """Importances until the choice is fixed, the choice until the end; a finished adapter shows it."""
        cfg = self.config(session.adapter.config)
        if session.steps >= cfg.steps:
            return {}
        fixed = session.steps >= cfg.steps - cfg.tfinal
        return {key: found for key, found in session.memory.items() if not fixed or key.endswith(KEPT)}

    def _budget(self, session: Session, cfg: Config, t: int) -> int:
        """How many triplets are left at step t: falls with the cube from all of them to `target_r` a target."""
        n = len(session.states)
        begin, end = sum(len(state["E"]) for state in session.states.values()), cfg.target_r * n
        if t <= cfg.tinit:
            return begin
        if t >= cfg.steps - cfg.tfinal:
            return end
        left = 1 - (t - cfg.tinit) / (cfg.steps - cfg.tfinal - cfg.tinit)
        return int((begin - end) * left**3 + end)

    def _scores(self, session: Session) -> dict[str, Tensor]:
        """The importance of each triplet, (r,) a target; |E| where nothing is remembered of its training."""
        found = {}
        for path, state in session.states.items():
            E, B, A = (sensitivity.of(session, path, name) for name in "EBA")
            if E is None or B is None or A is None:
                found[path] = wide(state["E"]).detach().abs().squeeze(-1)
            else:
                found[path] = E.squeeze(-1) + B.mean(0) + A.flatten(1).mean(1)
        return found

    def _kept(self, session: Session, budget: int) -> dict[str, Tensor]:
        """Which triplets stay: all but the k least important of all targets together, with those that tie."""
        import torch

        scores = self._scores(session)
        every = torch.cat(list(scores.values()))
        k = len(every) - budget
        if k <= 0:
            return {path: s > -1 for path, s in scores.items()}
        threshold = torch.kthvalue(every, k).values
        return {path: s > threshold for path, s in scores.items()}

    def _mask(self, session: Session) -> None:
        """Prune again what a step of the optimiser may have moved; what, a finished adapter shows by its zeros."""
        import torch

        with torch.no_grad():
            for path, state in session.states.items():
                kept = session.memory.get(path + KEPT)
                if kept is None:
                    kept = session.memory[path + KEPT] = session.adapter.at(path)["E"].squeeze(-1) != 0
                state["E"].mul_(kept.to(state["E"].device).unsqueeze(-1))
