"""SpIEL: W' = W + S, S zero but at places that are chosen anew while it is trained.  Ansell et al. 2024,
arXiv:2401.16405.

The accumulating form (AG), a `share` of each weight: places begin at random; every `every` steps the gradients of as
many candidates, those that are largest at first, are gathered over `over` steps, and a part of the places, those that
moved least, makes room for the candidates with the largest sums: all at first, `rate` of them later, less and less
until `steps` (0: always as many). A place that is left is zero again. Here all numbers are trained and set back after
each step: the same places and values, with the memory of full fine-tuning, moments of the optimiser that a new place
had all along, where the authors' code makes them of its sums, and a norm of gradients that counts all. The form whose
momenta are estimated (MA) is not here.

Choose it where few numbers should be trained and nobody knows which: it looks while it learns. It costs the memory of
full fine-tuning here, and needs some hundred steps to find its places; `fish-mask` chooses before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.errors import BadConfig
from adaptr.families.masked import Masked, Masking

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.contract import Run
    from adaptr.host import Session

#: What a session remembers of a tensor: its places, and the sums of its candidates' gradients, zero elsewhere.
CHOSEN, SUMS = ".chosen", ".sums"


@dataclass(frozen=True)
class Config(Masking):
    share: float = 0.01
    every: int = 20
    over: int = 5
    rate: float = 0.2
    steps: int = 0
    seed: int = 0


class SpIEL(Masked[Config]):
    name = "spiel"
    small = {"share": 0.1, "every": 2, "over": 1}

    def config(self, values: Mapping[str, Any]) -> Config:
        cfg = super().config(values)
        if not (0 < cfg.over < cfg.every and 0 <= cfg.rate <= 1):
            raise BadConfig(
                "`spiel`: `every`, `over` and `rate`",
                got=f"{cfg.every}, {cfg.over} and {cfg.rate}",
                want="`over` from 1 and below `every`, `rate` from 0 to 1",
            )
        return cfg

    # ------------------------------------------------------------ training

    def prepare(self, session: Session, data: Iterable[Run]) -> None:
        import torch

        from adaptr.algebra import stream

        cfg = self.config(session.adapter.config)
        for key, D in _tensors(session).items():
            count = max(1, round(cfg.share * D.numel()))
            chosen = torch.zeros(D.numel(), dtype=torch.bool)
            chosen[stream.choose(cfg.seed, f"spiel.{key}", D.numel(), count)] = True
            session.memory[key + CHOSEN] = chosen.view(D.shape).to(D.device)

    def after_step(self, session: Session) -> None:
        import torch

        cfg = self.config(session.adapter.config)
        at = session.steps % cfg.every
        with torch.no_grad():
            for key, D in _tensors(session).items():
                if key + CHOSEN not in session.memory:  # nobody prepared it
                    self.prepare(session, ())
                D.mul_(session.memory[key + CHOSEN].to(D.device))
                if 1 <= at <= cfg.over and D.grad is not None:
                    self._gather(session, key, D.grad.float(), at == 1)
                if at == cfg.over and key + SUMS in session.memory:
                    self._exchange(session, key, D, self._part(cfg, session.steps))

    def _part(self, cfg: Config, step: int) -> float:
        """Which part of the places is chosen anew."""
        if step == cfg.over:
            return 1.0
        return cfg.rate * max(0.0, 1 - step / cfg.steps) if cfg.steps else cfg.rate

    def _gather(self, session: Session, key: str, grad: Tensor, first: bool) -> None:
        count = int(session.memory[key + CHOSEN].sum())
        seen = _largest(grad.abs(), count) if first else session.memory[key + SUMS].to(grad.device) != 0
        before = 0.0 if first else session.memory[key + SUMS].to(grad.device)
        session.memory[key + SUMS] = before + grad * seen

    def _exchange(self, session: Session, key: str, D: Tensor, part: float) -> None:
        """Those that moved least leave, the candidates with the largest sums come; who leaves and comes has stayed."""
        chosen, sums = session.memory[key + CHOSEN].to(D.device), session.memory.pop(key + SUMS).to(D.device)
        count = int(part * int(chosen.sum()))
        leaving = _largest((-D.abs().float()).where(chosen, -float("inf")), count)
        comes = _largest(sums.abs().where(~chosen | leaving, 0.0), count) & (sums != 0)
        new, spare = comes & ~chosen, leaving & ~comes
        gone = _largest((-D.abs().float()).where(spare, -float("inf")), int(new.sum()))
        session.memory[key + CHOSEN] = (chosen & ~gone) | new
        D.mul_(session.memory[key + CHOSEN])


def _tensors(session: Session) -> dict[str, Tensor]:
    """D of each target that is not finished, by its key."""
    return {state.key("D"): state["D"] for state in session.states.values() if "D" in state}


def _largest(scores: Tensor, count: int) -> Tensor:
    """Where the `count` largest are; of equals the first."""
    chosen = scores.new_zeros(scores.numel()).bool()
    chosen[scores.flatten().sort(descending=True, stable=True).indices[:count]] = True
    return chosen.view(scores.shape)
