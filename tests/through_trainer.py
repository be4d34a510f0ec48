"""transformers' trainer with a session in it, on a few batches: what drives the laws of training beside `Driver`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from adaptr.host import Session
from adaptr.testing import Driver
from adaptr.training import checkpoints
from adaptr.training.arguments import arguments
from adaptr.training.fields import recipe
from adaptr.training.precision import Machine
from adaptr.training.trainers import Plain

CPU = Machine("cpu", "fp32")


class Steered(Plain):
    """Its loss is `loss` of what the model puts out for a batch, the model's own if None."""

    loss: Callable[[Any, Any], Any] | None = None

    def _forward(self, model: Any, inputs: Any, items: Any) -> Any:
        if self.loss is None:
            return super()._forward(model, inputs, items)
        output = model(**inputs)
        return self.loss(output, inputs), output


class ThroughTrainer(Driver):
    """What `Driver` does, done by a trainer."""

    def __init__(self, session: Session, batches: Sequence[Any], steps: int, loss: Callable[..., Any]) -> None:
        super().__init__(session, batches, steps, loss)
        self.folder, self.at, self.trainer = Path(tempfile.mkdtemp()), None, None

    def fit(self, until: int | None = None) -> None:
        self.trainer = trainer(
            self.session.model, lambda _: self.session, self.batches, self.folder, steps=self.steps, rate=self.rate
        )
        self.trainer.loss = self.loss
        self.trainer.steps.until = until
        self.trainer.train(self.at)

    def state(self) -> dict[str, Any]:
        return {"checkpoint": str(checkpoints.latest(self.folder))}

    def load_state(self, state: dict[str, Any]) -> None:
        self.at = Path(state["checkpoint"])


def trainer(
    model: Any, attach: Callable[[Any], Session], batches: Sequence[Mapping[str, Any]], run: Path, **fields: Any
) -> Steered:
    """A trainer over whole batches, one after the other."""
    made = recipe(base="-", data="-", batch=1, **fields)
    args = arguments(made, "plain", CPU, run)
    args.train_sampling_strategy = "sequential"
    return Steered(
        model,
        attach,
        warmup=made.warmup,
        args=args,
        train_dataset=[{"batch": one} for one in batches],
        data_collator=lambda found: found[0]["batch"],
    )
