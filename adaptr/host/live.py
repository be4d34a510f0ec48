"""The model that is meant where something around it is given: a pipeline of transformers has it as its `model`."""

from __future__ import annotations

from torch import nn

from adaptr.errors import UsageError, shown


def model_of(given: object) -> nn.Module:
    """Raises `UsageError` for what neither is a model nor has one."""
    found = given if isinstance(given, nn.Module) else getattr(given, "model", None)
    if not isinstance(found, nn.Module):
        raise UsageError(
            "the model", got=f"`{shown(repr(given))}`", want="a torch module, or a pipeline that has one as its `model`"
        )
    return found
