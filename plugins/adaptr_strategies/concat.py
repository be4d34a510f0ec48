"""Concat: P = [P_1; ...; P_n], the tokens of prompts and prefixes one after the other, those of the first input first.

Only for soft prompts and prefixes of one method. Tokens have no strength, so all weights are 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.adapter import Adapter, Target
from adaptr.contract.settings import Nothing
from adaptr.errors import Unsupported
from adaptr.strategies.base import Weights
from adaptr.strategies.whole import Whole, materialised, require_alike

if TYPE_CHECKING:
    from torch import Tensor


class Concat(Whole[Nothing]):
    name = "concat"
    ordered = "tokens are read in their order"
    jumps = "tokens have no strength"

    def whole(self, adapters: Sequence[Adapter], weights: Weights, cfg: Nothing) -> Adapter:
        adapters = materialised(adapters)
        first = adapters[0]
        method = plugins.method(first.method)
        axis = method.can.tokens
        if axis is None:
            raise Unsupported(
                f"`concat` puts virtual tokens one after the other, and `{first.method}` has none", hint="use `linear`"
            )
        require_alike(self.name, adapters, frozenset({"tokens", "rows"}))
        for weight in weights:
            method.check_weight(weight)
        tensors: dict[str, Tensor] = {}
        targets: dict[str, Target] = {}
        for path, target in first.targets.items():
            parts = [_tokens(a, path, axis) for a in adapters]
            tensors.update({f"{path}:{n}": _joined([p[n] for p in parts], axis) for n in parts[0]})
            targets[path] = dataclasses.replace(target, config=_counted(target.config, adapters))
        return first.replace(config=_counted(first.config, adapters), targets=targets, tensors=tensors)


def _counted(config: Mapping[str, Any], adapters: Sequence[Adapter]) -> dict[str, Any]:
    tokens = sum(a.config["tokens"] for a in adapters)
    counted = {**config, "tokens": tokens, **({"rows": tokens} if "rows" in config else {})}
    return {**counted, "frozen": _frozen(adapters)} if "frozen" in config else counted


def _frozen(adapters: Sequence[Adapter]) -> list[int]:
    """The rows that stay words in a training that goes on, where they are now."""
    before = [sum(one.config["tokens"] for one in adapters[:i]) for i in range(len(adapters))]
    return [first + row for first, one in zip(before, adapters, strict=True) for row in one.config["frozen"]]


def _tokens(adapter: Adapter, path: str, axis: int) -> dict[str, Tensor]:
    """The tensors at a target, without the tokens that nobody reads."""
    return {n: t.narrow(axis, 0, adapter.config["tokens"]) for n, t in adapter.at(path).items()}


def _joined(parts: list[Tensor], axis: int) -> Tensor:
    import torch

    return torch.cat(parts, dim=axis)
