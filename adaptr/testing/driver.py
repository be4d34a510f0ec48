"""All that a trainer does with a session, in sixty lines: for the laws of training, and to be read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptr.contract import Run
from adaptr.contract.lifecycle import phase_at
from adaptr.host import Session

if TYPE_CHECKING:
    from torch.optim import Optimizer

Batch = Mapping[str, Any]


class Driver:
    """Trains a session for `steps` on `batches`, in turn. `loss`: of what the model puts out for a batch."""

    rate = 1e-2

    def __init__(self, session: Session, batches: Sequence[Batch], steps: int, loss: Callable[..., Any]) -> None:
        self.session, self.batches, self.steps, self.loss = session, batches, steps, loss
        self.optimiser: Any = None

    def run(self, number: int) -> Run:
        """One forward of a batch, each time it is called."""
        batch, model = self.batches[number % len(self.batches)], self.session.model
        return lambda: (self.loss(output := model(**batch), batch), output)

    def fit(self, until: int | None = None) -> None:
        """Train to the end, or to that step."""
        session, phases = self.session, self.session.phases()
        session.prepare(map(self.run, range(len(self.batches))))
        for step in range(session.steps, self.steps if until is None else until):
            number = phase_at(phases, step / self.steps)
            if self.optimiser is None or number != session.phase:
                session.begin(number)
                self.optimiser = self._optimiser()
            self.optimiser.zero_grad()
            session.objective(self.run(step)).backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            session.after_step()

    def _optimiser(self) -> Optimizer:
        from torch.optim import AdamW

        groups = self.session.groups()
        return AdamW([{"params": g.params, "lr": self.rate * g.rate, "weight_decay": g.decay / 100} for g in groups])

    def state(self) -> dict[str, Any]:
        import torch

        return {"session": self.session.state(), "optimiser": self.optimiser.state_dict(), "rng": torch.get_rng_state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        import torch

        self.session.load_state(state["session"])
        self.optimiser = self._optimiser()
        self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["rng"])
