"""Adapters for a stack, and their weighted sum by hand."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

import adaptr
import tiny
from adaptr.testing import logits, shaken

TARGETS = ["attn.q", "attn.v", "mlp.down"]
WEIGHTS = {"a": 1.0, "b": 0.5, "c": -0.25, "d": 0.75}
PATTERNS = {"*": 0.5, "*.mlp.*": 0.0, "*.layers.1.*": 2.0}


def adapter(model: Any, seed: int, method: str = "lora", targets: Any = TARGETS, **config: Any) -> adaptr.Adapter:
    config = config or ({"r": 1 + seed} if method in {"lora", "dora", "loha"} else {})
    return shaken(adaptr.create(model, method, targets, seed=seed, **config), seed)


def four(model: Any) -> dict[str, adaptr.Adapter]:
    return {name: adapter(model, seed) for seed, name in enumerate("abcd", 1)}


def out(model: Any, name: str = "llama") -> torch.Tensor:
    with torch.inference_mode():
        return logits(model(**tiny.inputs(name))).clone()


def summed(model: Any, adapters: Mapping[str, adaptr.Adapter], weights: Mapping[str, Any]) -> torch.Tensor:
    """The output with W + Σ w D written into the weights, by hand in fp64."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for name, one in adapters.items():
            for path in one.targets:
                weight = twin.get_submodule(path).weight
                scaled = one[path] * at(weights[name], path)
                weight.copy_((weight.double() + scaled.dense(torch.float64)).float())
    return out(twin)


def at(weight: Any, path: str) -> float:
    from fnmatch import fnmatch

    return weight if isinstance(weight, float) else [w for p, w in weight.items() if fnmatch(path, p)][-1]
