"""A recipe as the arguments of transformers' and TRL's trainers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from adaptr import plugins
from adaptr.training.precision import OPTIMIZERS, Machine
from adaptr.training.recipe import Recipe
from adaptr.training.schedule import CALLED

#: "No limit" as transformers says it.
UNSET = -1


def arguments(recipe: Recipe, kind: str, machine: Machine, run: Path) -> Any:
    """Those of the trainer for a task of that `kind` (`Task.trainer`)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        if kind == "sft":
            from trl import SFTConfig

            return SFTConfig(**_common(recipe, machine, run), **_packing(recipe))
        if kind == "dpo":
            from trl import DPOConfig

            return DPOConfig(
                **_common(recipe, machine, run),
                beta=recipe.beta,
                max_length=recipe.length,
                precompute_ref_log_probs=True,
            )
        from transformers import Seq2SeqTrainingArguments, TrainingArguments

        return (Seq2SeqTrainingArguments if kind == "seq2seq" else TrainingArguments)(**_common(recipe, machine, run))


def _packing(recipe: Recipe) -> dict[str, Any]:
    if recipe.pack:
        return {"packing": True, "packing_strategy": "bfd", "max_length": recipe.length, "eval_packing": False}
    return {"dataset_kwargs": {"skip_prepare_dataset": True}, "max_length": None}


def _common(recipe: Recipe, machine: Machine, run: Path) -> dict[str, Any]:
    return {
        "output_dir": str(run),
        "max_steps": recipe.steps or UNSET,
        "num_train_epochs": recipe.epochs,
        "per_device_train_batch_size": recipe.batch,
        "per_device_eval_batch_size": recipe.batch,
        "gradient_accumulation_steps": recipe.accumulate,
        "learning_rate": recipe.rate or 0.0,
        "lr_scheduler_type": CALLED.get(recipe.schedule, recipe.schedule),
        "weight_decay": recipe.decay,
        "max_grad_norm": recipe.clip,
        "optim": OPTIMIZERS[recipe.optimizer],
        "label_smoothing_factor": recipe.smoothing if recipe.objective == "sft" else 0.0,
        "seed": recipe.seed,
        "use_cpu": machine.device == "cpu",
        "bf16": machine.dtype == "bf16",
        "fp16": machine.dtype == "fp16",
        "activation_checkpointing": recipe.checkpointing,
        "activation_checkpointing_kwargs": {"use_reentrant": False} if recipe.checkpointing else None,
        "torch_compile": recipe.compile,
        "save_strategy": "steps" if recipe.save_every else "no",
        "save_steps": recipe.save_every or 1,
        "eval_strategy": "steps" if recipe.eval_every and recipe.valid else "no",
        "eval_steps": recipe.eval_every or None,
        "logging_steps": recipe.log_every,
        "logging_nan_inf_filter": False,  # a loss that is no number is the first thing to be told
        "include_num_input_tokens_seen": "non_padding",
        "report_to": list(recipe.report_to),
        "disable_tqdm": True,
        "remove_unused_columns": False,  # examples have what their task gave them
        "ddp_find_unused_parameters": plugins.method(recipe.method).skips,
        "dataloader_num_workers": 0,
        "log_level": "error",
    }
