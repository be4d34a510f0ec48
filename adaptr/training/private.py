"""What training needs of transformers, accelerate and TRL and they have no public word for. Each word stands here once,
and tests/training/test_private.py fails when one moves.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: How transformers marks a model that has adapters, which opens quantised bases to its trainers.
MARK = "_hf_peft_config_loaded"


@contextmanager
def adapters_on(model: Any) -> Iterator[None]:
    """While a trainer is made: the model says that it has adapters, as it will have.

    A quantised base is frozen: of what learns there TRL makes bf16, norms and embeddings too.
    """
    if getattr(model, "is_quantized", False):
        model.requires_grad_(False)
    setattr(model, MARK, True)
    try:
        yield
    finally:
        delattr(model, MARK)


def quiet() -> None:
    """bitsandbytes says at its import which kernels it has not found."""
    import logging

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


@contextmanager
def without_a_word() -> Iterator[None]:
    """TRL shows a bar of its own while it computes a reference, and asks transformers what is deprecated."""
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        if before is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = before


def prepared(accelerator: Any, optimizer: Any) -> Any:
    """A new optimiser in the place of the one before, whose gradients would be unscaled as well."""
    accelerator._optimizers.clear()
    return accelerator.prepare_optimizer(optimizer)


def seen(model: Any) -> dict[str, Any]:
    """What trainers change of a model and never give back."""
    config = getattr(model, "config", None)
    tags = getattr(model, "model_tags", None)
    return {
        "forward": model.__dict__.get("forward"),
        "config": dict(config.__dict__) if config is not None else {},
        "generation": dict(model.generation_config.__dict__) if getattr(model, "generation_config", None) else {},
        "tags": list(tags) if tags else tags,
        "checkpointing": getattr(model, "is_activation_checkpointing", False),
        "flags": {name: p.requires_grad for name, p in model.named_parameters()},
        "training": model.training,
        "dropout": [(module, module.p) for module in model.modules() if _drops(module)],
    }


def restore(model: Any, before: dict[str, Any]) -> None:
    """Give it back: TRL's patch of `forward`, tags, the cache switched off, special tokens, checkpointing."""
    if before["forward"] is None:
        model.__dict__.pop("forward", None)
    if getattr(model, "config", None) is not None:
        _reset(model.config, before["config"])
    if getattr(model, "generation_config", None) is not None:
        _reset(model.generation_config, before["generation"])
    if hasattr(model, "model_tags"):
        model.model_tags = before["tags"]
    if getattr(model, "is_activation_checkpointing", False) and not before["checkpointing"]:
        model.activation_checkpointing_disable()
    for name, p in model.named_parameters():
        p.requires_grad_(before["flags"].get(name, p.requires_grad))
    for module, p in before["dropout"]:
        module.p = p
    model.train(before["training"])


def _drops(module: Any) -> bool:
    from torch import nn

    return isinstance(module, nn.Dropout)


def _reset(config: Any, before: dict[str, Any]) -> None:
    config.__dict__.clear()
    config.__dict__.update(before)
