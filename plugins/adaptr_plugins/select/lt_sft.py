"""LT-SFT: W' = W + S, S zero but at the places that moved most in a first training.  Ansell et al. 2022,
arXiv:2110.07560.

All numbers of the targets are trained, and whole parameters beside them (`also`); the `share` that moved most, of all
together, is chosen, everything is set back, and these alone are trained anew. `l1` is λ of λ times the mean of what has
moved, in both trainings. The paper's number of places, lengths and λ are not confirmed ([M]); its repetitions in which
more and more is unfrozen are not here.

Choose it where changes are to be added up, as a language's and a task's: sparse ones rarely meet. It costs a whole
fine-tuning first, and as much again. Where neither memory nor time is there for that, take LoRA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr.contract import Phase
from adaptr.families.masked import Masked, Masking

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.host import Session


@dataclass(frozen=True)
class Config(Masking):
    share: float = 0.01
    l1: float = 0.0


class LTSFT(Masked[Config]):
    name = "lt-sft"

    def phases(self, cfg: Config) -> Sequence[Phase]:
        return (Phase("train"),) if cfg.finished else (Phase("full"), Phase("sparse"))

    def begin(self, session: Session, phase: str) -> None:
        """Choose the places that moved most of all, and set everything back."""
        import torch

        moved = {key: self._moved(session, key).detach().clone() for key in session.named()}
        with torch.no_grad():
            for key, change in moved.items():
                session.named()[key].sub_(change)
        share = self.config(session.adapter.config).share
        total = sum(change.numel() for change in moved.values())
        self.choose(session, {key: change.abs() for key, change in moved.items()}, round(share * total))

    def penalty(self, session: Session) -> Tensor | float:
        """λ times the mean of what has moved."""
        l1 = self.config(session.adapter.config).l1
        if not l1:
            return 0.0
        moved = [self._moved(session, key) for key in session.named()]
        return l1 * sum(change.abs().sum() for change in moved) / sum(change.numel() for change in moved)

    def _moved(self, session: Session, key: str) -> Tensor:
        path, _, name = key.rpartition(":")
        now = session.named()[key]
        return now - session.below(path) if name == "=" else now
