"""LN-Tuning: γ' = γ + D, β' = β + b, of every norm.  Qi et al. 2022, arXiv:2211.08682.

Stored as differences, which add; a norm that scales by 1 + γ has the same ones. Where a norm has no bias there is none.

Choose it where `layernorm` is meant with all norms, or as a companion that costs nothing beside another method. Alone
it can't teach facts or skills that the base has not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr import Target
from adaptr.adapter import kinds
from adaptr_plugins.delta.full import Full

if TYPE_CHECKING:
    from torch import nn


class LNTuning(Full):
    name = "ln-tuning"
    family = "select"
    kinds = frozenset({kinds.NORM})
    targets = ("re:.*",)
    default_for = frozenset()

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return with_bias(model, target, values)


def with_bias(model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
    """`values` with a bias where the module has one."""
    has = not target.stacked and model.get_submodule(target.path)._parameters.get("bias") is not None
    return {"bias": has and target.biased, **values}
