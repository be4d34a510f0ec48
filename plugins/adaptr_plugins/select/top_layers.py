"""Top layers: W' = W + D, b' = b + d in the last n blocks, nothing below.  No paper; surveyed by Lee et al. 2019,
arXiv:1911.03090.

All matrices, norms and biases of the blocks, those of the decoder where there are two stacks. Head and last norm are
named by `also`. Blocks are counted in the order of the model, not by the spelling of their names.

Choose it where steps must be cheap: nothing below the last n blocks is differentiated. The lower blocks' features stay
as they are, which is too little for inputs unlike the base's, and n blocks are stored whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Target, targets
from adaptr.errors import BadConfig, TargetNotFound
from adaptr_plugins.delta.full import Full
from adaptr_plugins.select.ln_tuning import with_bias

if TYPE_CHECKING:
    from torch import nn


_BLOCK = re.compile(r"(.*?\.)?(\d+)\.")


@dataclass(frozen=True)
class Config:
    n: int = 1
    bias: bool = False


class TopLayers(Full):
    name = "top-layers"
    family = "select"
    Config = Config
    default_for = frozenset()

    def usual(self, model: nn.Module, config: Mapping[str, Any]) -> str:
        return last(model, vars(self.config(config))["n"])

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return with_bias(model, target, values)


def last(model: nn.Module, n: int) -> str:
    """A pattern for what is in the last n blocks of the last stack. Raises `BadConfig` where there are fewer."""
    places = targets.resolve(model, "re:.*", TopLayers.kinds)
    blocks = dict.fromkeys(found[0] for place in places if (found := _BLOCK.match(place.path)))
    if not blocks:
        raise TargetNotFound("`top-layers`: the model has no blocks that are counted", hint="name targets")
    stack = [block for block in blocks if _stack(block) == _stack(list(blocks)[-1])]
    if not 1 <= n <= len(stack):
        raise BadConfig("`top-layers`: `n`", got=n, want=f"1 to {len(stack)}, the blocks of `{_stack(stack[0])}`")
    return "re:(" + "|".join(map(re.escape, stack[-n:])) + ").*"


def _stack(block: str) -> str:
    found = _BLOCK.match(block)
    assert found is not None
    return found[1] or ""
