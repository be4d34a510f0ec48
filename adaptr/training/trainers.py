"""transformers' own trainers with a session in between."""

from __future__ import annotations

from typing import Any

from transformers import Seq2SeqTrainer, Trainer

from adaptr.training.lifecycle import Lifecycle


class Plain(Lifecycle, Trainer):  # type: ignore[misc]  # transformers has no types
    """Any task whose model computes a loss.

    Not all models that take `num_items_in_batch` heed it (regression and T5 do not), so it is heeded here: a batch has
    the part of a step's loss that its labels have of the step's. Of questions a label is where the answer starts.
    """

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Any:
        labelled = [{"labels": _labels(batch)} for batch in batch_samples]
        return super()._get_num_items_in_batch(labelled, device)

    def _forward(self, model: Any, inputs: Any, items: Any) -> tuple[Any, Any]:
        loss, output = super()._forward(model, inputs, None)
        if items is None:
            return loss, output
        labels = _labels(inputs)[..., 1:] if self._loss_shifts_labels else _labels(inputs)
        return loss * (labels.ne(-100).sum() / items * self.args.world_size), output


def _labels(batch: Any) -> Any:
    return batch["labels"] if "labels" in batch else batch["start_positions"]


class Translating(Plain, Seq2SeqTrainer):  # type: ignore[misc]
    """A sequence from a sequence."""

    def _forward(self, model: Any, inputs: Any, items: Any) -> tuple[Any, Any]:
        """Where labels are smoothed the model does not get them, and so not what the decoder goes on from."""
        if self.label_smoother is not None:
            begun = self.model.prepare_decoder_input_ids_from_labels(labels=inputs["labels"])
            inputs = {**inputs, "decoder_input_ids": begun}
        return super()._forward(model, inputs, items)
