"""Gates over three experts, and the sum in a plain loop that they are held against."""

from __future__ import annotations

import copy
from typing import Any

import torch

import adaptr
import tiny
from adaptr.testing import logits, shaken

TARGETS = ["attn.q", "attn.v", "mlp.down"]


def expert(model: Any, seed: int, method: str = "lora", targets: Any = TARGETS, **config: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, method, targets, seed=seed, **(config or {"r": 1 + seed})), seed)


def three(model: Any) -> dict[str, adaptr.Adapter]:
    return {
        "a": expert(model, 1),
        "b": expert(model, 2, "loha", r=2),
        "c": expert(model, 3, targets=["attn.q", "mlp.up"]),
    }


def gate(model: Any, method: str = "xlora", children: Any = None, **config: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, method, children=children or three(model), **config), 9, 0.5)


def out(model: Any, name: str = "llama", **more: Any) -> torch.Tensor:
    with torch.no_grad():
        return logits(model(**tiny.inputs(name), **more)).clone()


def summed(model: Any, gate: adaptr.Adapter, weight: Any) -> torch.Tensor:
    """The output where each layer adds Σ s_i D_i x in a plain loop over tokens and experts; `weight(path, x)` gives s
    (batch, tokens, n)."""
    twin, hooks = copy.deepcopy(model), []
    parts = [gate.part(name) for name in gate.config["experts"]]
    for path in {path for part in parts for path in part.targets}:

        def after(module: Any, args: Any, y: torch.Tensor, path: str = path) -> torch.Tensor:
            (x,) = args
            s, y = weight(path, x), y.clone()
            for b in range(x.shape[0]):
                for t in range(x.shape[1]):
                    for i, part in enumerate(parts):
                        if path in part.targets:
                            y[b, t] += s[b, t, i] * (part[path].dense() @ x[b, t])
            return y

        hooks.append(twin.get_submodule(path).register_forward_hook(after))
    return out(twin)
