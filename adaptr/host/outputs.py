"""What modules give: a tensor, or several of which the first is what goes on (weights and caches come behind)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping
from typing import cast

from torch import Tensor


def first_of(output: object) -> Tensor:
    """What a module gives: its output, or the first of several."""
    if isinstance(output, Mapping):
        output = next(iter(output.values()))
    elif isinstance(output, tuple | list):
        output = output[0]
    return cast(Tensor, output)


def with_first(output: object, y: Tensor) -> object:
    """`output` with `y` in the place of its first tensor."""
    if isinstance(output, MutableMapping):
        made = copy.copy(output)
        made[next(iter(output))] = y
        return made
    if isinstance(output, tuple | list):
        several = [y, *output[1:]]
        return type(output)(*several) if hasattr(output, "_fields") else type(output)(several)
    return y
