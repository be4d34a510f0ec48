"""The laws of training through transformers' trainer, for every method: what `Driver` does in sixty lines."""

from __future__ import annotations

from typing import Any

import tiny
from adaptr import plugins
from adaptr.host import Session
from adaptr.testing import Driver, Laws
from adaptr.testing.training import TrainingLaws
from through_trainer import ThroughTrainer


def _laws(name: str) -> type[TrainingLaws]:
    class Of(TrainingLaws):
        method = name
        config, targets, children = Laws.config, Laws.targets, Laws.children
        inputs, fresh = Laws.inputs, Laws.fresh

        def model(self) -> Any:
            return tiny.model("gpt2" if name == "bitfit" else "llama")  # one with biases

        def driver(self, session: Session) -> Driver:
            made = super().driver(session)
            return ThroughTrainer(session, made.batches, made.steps, made.loss)

    Of.__name__ = Of.__qualname__ = f"Test_{name}".replace("-", "_")
    return Of


for _name in plugins.names():
    _made = _laws(_name)
    globals()[_made.__name__] = _made
