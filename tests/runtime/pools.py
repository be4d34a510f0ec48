"""Adapters of all kinds for a pool, and what each gives alone."""

from __future__ import annotations

from typing import Any

import torch

import adaptr
import tiny
from adaptr.testing import logits, shaken

MIX = {
    "one": ("lora", {"r": 1}),
    "four": ("lora", {"r": 4, "rslora": True}),
    "nine": ("lora", {"r": 9, "bias": True}),
    "ada": ("adalora", {}),
    "loha": ("loha", {"r": 3}),
    "lokr": ("lokr", {}),
    "vera": ("vera", {"r": 8}),
    "dora": ("dora", {"r": 5}),
    "ia3": ("ia3", {}),
}
NAMES = [*MIX, "stack", None]
CLOSE = 1e-5


def adapters(model: Any, targets: Any = None) -> dict[str, adaptr.Adapter]:
    made = {
        name: shaken(adaptr.create(model, method, targets if method != "ia3" else None, seed=i, **config), i)
        for i, (name, (method, config)) in enumerate(MIX.items())
    }
    with adaptr.stack(model, {"a": (made["four"], 0.5), "b": (made["loha"], -1.5)}) as stack:
        made["stack"] = stack.adapted()
    return made


def alone(model: Any, adapter: adaptr.Adapter | None, **given: Any) -> torch.Tensor:
    """The output with one adapter attached, or none, in the usual way."""
    with torch.inference_mode():
        if adapter is None:
            return logits(model(**given)).clone()
        with adaptr.attach(model, adapter):
            return logits(model(**given)).clone()


def greedy(model: Any, adapter: adaptr.Adapter | None, prompt: list[int], count: int) -> list[int]:
    """Token by token without a cache."""
    ids = list(prompt)
    for _ in range(count):
        ids.append(int(alone(model, adapter, input_ids=torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] == 2:
            break
    return ids[len(prompt) :]


def prompts(count: int) -> list[list[int]]:
    draws = torch.Generator().manual_seed(5)
    lengths = torch.randint(1, 9, (count,), generator=draws).tolist()
    return [torch.randint(3, tiny.VOCAB, (n,), generator=draws).tolist() for n in lengths]
