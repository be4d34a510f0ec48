"""transformers' own trainers with a session in between."""

from __future__ import annotations

from typing import Any

from transformers import Seq2SeqTrainer, Trainer

from adaptr.training.lifecycle import Lifecycle


class Plain(Lifecycle, Trainer):  # type: ignore[misc]  # transformers has no types
    """Any task whose model computes a loss.

    Not all models that take `num_items_in_batch` heed it (regression and T5 do not), so it is heeded here: a batch has
    the part of a step's loss that its labels have of the step's.
    """

    def _forward(self, model: Any, inputs: Any, items: Any) -> tuple[Any, Any]:
        loss, output = super()._forward(model, inputs, None)
        if items is None:
            return loss, output
        labels = inputs["labels"][..., 1:] if self._loss_shifts_labels else inputs["labels"]
        return loss * (labels.ne(-100).sum() / items * self.args.world_size), output


class Translating(Plain, Seq2SeqTrainer):  # type: ignore[misc]
    """A sequence from a sequence."""
