"""A model of transformers says what it writes where it is saved while adapters are attached to it."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from adaptr.errors import phrases

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from adaptr.adapter import Adapter

SAVE, LEDGER = "save_pretrained", "_adaptr_attached"

log = logging.getLogger("adaptr")


def tell(model: nn.Module) -> None:
    """From now on; what it is saved by knows the model, of a copy the copy."""
    if hasattr(type(model), SAVE):
        model.__dict__[SAVE] = partial(_saved, model)


def hush(model: nn.Module) -> None:
    """No more, once nothing is attached."""
    if not model.__dict__.get(LEDGER):
        model.__dict__.pop(SAVE, None)


def _saved(model: nn.Module, *args: object, **kwargs: object) -> object:
    there: Mapping[str, Adapter] = model.__dict__.get(LEDGER, {})
    names = phrases.listed([f"`{adapter.name or adapter.method}`" for adapter in there.values()])
    log.warning(
        "the model is saved with %s attached: the base's weights, and tensors beside them that transformers doesn't "
        "read; detach first, keep an adapter by `adaptr.save`, or put it into the weights by `adaptr.merge`",
        names,
    )
    return getattr(type(model), SAVE)(model, *args, **kwargs)
