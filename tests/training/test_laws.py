"""The laws of training through transformers' trainer, for every method: what `Driver` does in sixty lines."""

from __future__ import annotations

from typing import Any

import tiny
from adaptr import plugins
from adaptr.host import Session
from adaptr.testing import Driver, Laws
from adaptr.testing.training import TrainingLaws
from through_trainer import ThroughTrainer

#: Models that have something for a method to change: biases, an attention to an encoder, biases of values.
MODELS = {"residual": "resnet", "bitfit": "gpt2", "cross-attention": "t5", "beft": "shallow-llama-biased"}


def _laws(name: str) -> type[TrainingLaws]:
    class Of(TrainingLaws):
        method = name
        config, targets, children = Laws.config, Laws.targets, Laws.children
        fresh = Laws.fresh

        def model(self) -> Any:
            return tiny.model(MODELS.get(name, "llama"))

        def inputs(self) -> Any:
            return tiny.inputs(MODELS[name]) if name in MODELS else Laws.inputs(self)  # type: ignore[arg-type]

        def driver(self, session: Session) -> Driver:
            made = super().driver(session)
            return ThroughTrainer(session, made.batches, made.steps, made.loss)

    Of.__name__ = Of.__qualname__ = f"Test_{name}".replace("-", "_")
    return Of


for _name in plugins.names():
    _made = _laws(_name)
    globals()[_made.__name__] = _made
