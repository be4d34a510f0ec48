"""Stack: W' = Tₙ(... T₁(W)), several adapters one on the other, each at its weight.  Pfeiffer et al. 2020,
arXiv:2005.00052.

Made of adapters of any methods by `adaptr.stack(model, {name: adapter})`, and saved as one file with all of them. A
weight is a number, a list of numbers from the first layer to the last, or either by pattern of the path. The identity
only if all its adapters are.

Choose it to use adapters of different purposes at once, such as a language below a task, exactly and in an order.
Nothing is learnt and nothing resolved between them: where they were trained for the same layers and disagree, `adaptr
compose` has strategies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptr import Adapter, Composite
from adaptr.adapter.weighting import restored, stored
from adaptr.contract.capabilities import STACK
from adaptr.errors import BadConfig

if TYPE_CHECKING:
    from torch import nn

    from adaptr.targets import Spec


@dataclass(frozen=True)
class Config:
    order: list[str] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)
    off: list[str] = field(default_factory=list)


class Stack(Composite[Config]):
    name = "stack"
    default_for = frozenset({STACK})
    needs = True
    examples = {"style": ("lora", ["attn.o", "mlp.down"], {"r": 2}), "tone": ("dora", ["attn.o"], {"r": 2})}

    def parts(self, cfg: Config) -> Mapping[str, tuple[str, Spec, Mapping[str, Any]]]:
        return {}

    def weights(self, adapter: Adapter) -> Mapping[str, Any]:
        cfg = self.config(adapter.config)
        strange = {*cfg.weights, *cfg.off} - set(adapter.parts)
        if sorted(cfg.order) != sorted(adapter.parts) or strange:
            raise BadConfig("`stack`: `order`", got=cfg.order, want=f"{sorted(adapter.parts)} in some order")
        return {n: restored(cfg.weights.get(n, 1.0), n) for n in cfg.order if n not in cfg.off}

    def over(self, model: nn.Module | None, children: Adapter, config: Mapping[str, Any], seed: int = 0) -> Adapter:
        weights = {name: stored(weight) for name, weight in config.get("weights", {}).items()}
        values = {"order": list(children.parts), **config, "weights": weights}
        made = children.replace(config=dataclasses.asdict(self.config(values)))
        self.weights(made)
        return made
