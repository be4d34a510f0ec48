"""The private words of transformers, accelerate and TRL that training needs are still there, and mean what they did."""

from __future__ import annotations

import inspect

import pytest
from accelerate import Accelerator
from transformers import Trainer, trainer_utils
from trl import DPOTrainer, SFTTrainer

from adaptr.training import private


def test_the_mark_of_adapters_opens_quantised_bases() -> None:
    assert private.MARK in inspect.getsource(trainer_utils.validate_quantization_for_training)


def test_optimisers_that_are_unscaled_are_in_one_list() -> None:
    assert "_optimizers" in inspect.getsource(Accelerator.unscale_gradients)
    assert "_optimizers" in inspect.getsource(Accelerator.prepare_optimizer)


@pytest.mark.parametrize(
    ("word", "used_in"),
    [
        ("_get_output_dir", Trainer._save_checkpoint),
        ("_save_checkpoint", Trainer._maybe_log_save_evaluate),
        ("_load_from_checkpoint", Trainer.train),
        ("save_model", Trainer._save_checkpoint),
        ("create_optimizer", Trainer._prepare_for_training),
        ("create_scheduler", Trainer._prepare_for_training),
        ("_created_lr_scheduler", Trainer._prepare_for_training),
        ("_loss_shifts_labels", Trainer._get_num_items_in_batch),
        ("_get_num_items_in_batch", Trainer.get_batch_samples),
        ("current_gradient_accumulation_steps", Trainer.training_step),
        ("on_step_begin", Trainer._run_epoch),
        ("on_optimizer_step", Trainer._run_epoch),
        ("_prepare_dataset", DPOTrainer.__init__),
        ("_send_telemetry", SFTTrainer.__mro__[1].__init__),
        ("create_model_card", SFTTrainer._save_checkpoint),
        ("_metrics", SFTTrainer.log),
        ("_metrics", DPOTrainer.log),
        ("TQDM_DISABLE", DPOTrainer._precompute_ref_logps),
    ],
)
def test_what_is_overridden_is_called(word: str, used_in: object) -> None:
    assert word in inspect.getsource(used_in)  # type: ignore[arg-type]
