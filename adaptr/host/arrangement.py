"""The tree of blocks that adapters on a model are in: a place asks for its View, a call of the model for its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from adaptr.errors import Unsupported
from adaptr.host import generating
from adaptr.host.blocks import Parallel
from adaptr.host.tree import Here, Region

if TYPE_CHECKING:
    from torch import nn

    from adaptr.contract import View
    from adaptr.host.state import State
    from adaptr.host.tree import Block


#: What a module is called with.
Call = tuple[tuple[object, ...], dict[str, object]]


class Arrangement:
    """The tree that the states of some adapters are in. A View is made of it; who changes it has Views made anew."""

    def __init__(self, block: Block) -> None:
        self.block = block

    def over(self, below: View, states: Sequence[State], module: nn.Module) -> View:
        return self.block.over(below, Here(module, states), Region())


class Repeat:
    """A pre-hook of a model: the call once for each member of a Parallel."""

    def __init__(self, arrangement: Arrangement) -> None:
        self.arrangement = arrangement

    def __call__(self, model: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> Call | None:
        blocks = self.arrangement.block.blocks()
        count = next((len(one.members) for one in blocks if isinstance(one, Parallel)), 1)
        if count == 1:
            return None
        tensors = [v for v in (*args, *kwargs.values()) if isinstance(v, Tensor) and v.ndim]
        if generating.inside() or kwargs.get("past_key_values") is not None:
            raise Unsupported(
                "a Parallel repeats the rows of a call, and a cache has rows already",
                hint="repeat the prompts yourself and attach a `BatchSplit` with `sizes`",
            )
        rows = len(tensors[0]) if tensors else 0

        def repeated(value: object) -> object:
            if isinstance(value, Tensor) and value.ndim and len(value) == rows:
                return value.repeat(count, *(1 for _ in value.shape[1:]))
            return value

        return tuple(map(repeated, args)), {name: repeated(value) for name, value in kwargs.items()}
