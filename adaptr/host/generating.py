"""`generate` of a model, while something on it asks what a forward knows: where an invocation began.

Over a cache a forward behind the first is known by what the cache holds. Without one each step is given all of the text
once more, and looks as if it began with it; so the invocation remembers how long the text was that it began with.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch

from adaptr.errors import Unsupported
from adaptr.host.call import find, put, restore

if TYPE_CHECKING:
    from types import FrameType

    from torch import nn

#: Of one invocation, for each stack: how many columns its first forward had.
Began = dict[object, int]
#: Where transformers generates.
CODE = ("generation/utils.py", "generate")


class Generating:
    """What a model has in the place of its `generate`, which it calls."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.before = model.__dict__.get("generate")
        model.__dict__["generate"] = self

    def __call__(self, *args: object, **kwargs: object) -> object:
        before = put(self, {})
        try:
            return self._own(*args, **kwargs)
        finally:
            restore(before)

    @property
    def _own(self) -> Callable[..., object]:
        found: Callable[..., object] = self.before or cast(Any, type(self.model)).generate.__get__(self.model)
        return found

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._own)

    def now(self) -> Began | None:
        """The invocation that this thread is in."""
        found: Began | None = find(self)
        return found

    def remove(self) -> None:
        if self.before is None:
            self.model.__dict__.pop("generate", None)
        else:
            self.model.__dict__["generate"] = self.before


def of(model: nn.Module) -> Generating | None:
    """Where invocations of a model are known, if it generates."""
    return Generating(model) if hasattr(type(model), "generate") else None


def refuse_unknown() -> None:
    """Raises `Unsupported` in a step of a generation that nobody has told of: another model's, that has this within."""
    if inside():
        raise Unsupported(
            "a model is generating without a cache, and the adapter is on a part of it, which can't tell a prompt "
            "from what was generated",
            hint="attach it to the model that generates, or say `use_cache=True`",
        )


def inside() -> bool:
    """Whether this is a step of a generation, of whatever model."""
    if torch.compiler.is_compiling():
        return False
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        code = frame.f_code
        if code.co_name == CODE[1] and code.co_filename.replace("\\", "/").endswith(CODE[0]):
            return True
        frame = frame.f_back
    return False
