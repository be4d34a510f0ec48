"""A model of transformers says what it writes where it is saved while adapters are on it: those that are attached are
not in the weights that others read, those that are merged into them are.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from adaptr.errors import phrases

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from torch import nn

    from adaptr.adapter import Adapter

#: `LEDGER`: the adapters on a model, by their keys; `MERGED`: the keys of those that are in its weights.
SAVE, LEDGER, MERGED = "save_pretrained", "_adaptr_attached", "_adaptr_merged"
ATTACHED = (
    "the model is saved with %s attached: %s, and tensors beside them that transformers doesn't read; detach first, "
    "keep an adapter by `adaptr.save`, or put it into the weights by `adaptr.merge`"
)
INSIDE = "the model is saved with %s merged into the weights that are written; to write the base's, detach first"

log = logging.getLogger("adaptr")


def tell(model: nn.Module) -> None:
    """From now on; what it is saved by knows the model, of a copy the copy."""
    if hasattr(type(model), SAVE):
        model.__dict__[SAVE] = partial(_saved, model)


def hush(model: nn.Module) -> None:
    """No more, once nothing is on it."""
    if not model.__dict__.get(LEDGER):
        model.__dict__.pop(SAVE, None)


def _saved(model: nn.Module, *args: object, **kwargs: object) -> object:
    there: Mapping[str, Adapter] = model.__dict__.get(LEDGER, {})
    inside: Collection[str] = model.__dict__.get(MERGED, ())
    merged = _names([adapter for key, adapter in there.items() if key in inside])
    attached = _names([adapter for key, adapter in there.items() if key not in inside])
    if attached:
        log.warning(ATTACHED, attached, f"the base's weights with {merged} merged" if merged else "the base's weights")
    elif merged:
        log.warning(INSIDE, merged)
    return getattr(type(model), SAVE)(model, *args, **kwargs)


def _names(adapters: Collection[Adapter]) -> str:
    return phrases.listed([f"`{adapter.name or adapter.method}`" for adapter in adapters])
