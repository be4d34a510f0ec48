"""transformers' own trainers with a session in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import Seq2SeqTrainer, Trainer

from adaptr.training.lifecycle import Lifecycle

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from adaptr.tasks import Batch


class Plain(Lifecycle, Trainer):  # type: ignore[misc]  # transformers has no types
    """Any task whose model computes a loss.

    Not all models that take `num_items_in_batch` heed it (regression and T5 do not), so it is heeded here: a batch has
    the part of a step's loss that its labels have of the step's. Of questions a label is where the answer starts.
    """

    def _get_num_items_in_batch(self, batch_samples: list[Batch], device: torch.device) -> Tensor | int | None:
        labelled = [{"labels": labels} for batch in batch_samples if (labels := _labels(batch)) is not None]
        found: Tensor | int | None = super()._get_num_items_in_batch(labelled or batch_samples, device)
        return found

    def _forward(self, model: Any, inputs: Any, items: Any) -> tuple[Any, Any]:
        begin = getattr(self.model, "prepare_decoder_input_ids_from_labels", None)
        if self.label_smoother is not None and begin is not None:  # the model is not given labels then
            inputs = {**inputs, "decoder_input_ids": begin(labels=inputs["labels"])}
        loss, output = super()._forward(model, inputs, None)
        labels = _labels(inputs)
        if items is None or labels is None:
            return loss, output
        labels = labels[..., 1:] if self._loss_shifts_labels else labels
        return loss * (labels.ne(-100).sum() / items * self.args.world_size), output


def _labels(batch: Batch) -> Tensor | None:
    """What the loss of a batch counts; None where a method's own loss needs none."""
    return batch.get("labels", batch.get("start_positions"))


class Translating(Plain, Seq2SeqTrainer):  # type: ignore[misc]
    """A sequence from a sequence."""
