"""Forwards of padded texts and of each alone, here or in another thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch

import adaptr
from adaptr.testing import shaken

TEXT = [[5, 7, 4, 9, 3, 11], [8, 6, 7, 12]]


def padded(left: bool = True) -> dict[str, torch.Tensor]:
    """Two texts, one shorter."""
    longest = max(map(len, TEXT))
    ids, mask = torch.zeros(2, longest, dtype=torch.long), torch.zeros(2, longest, dtype=torch.long)
    for i, text in enumerate(TEXT):
        at = slice(longest - len(text), None) if left else slice(len(text))
        ids[i, at], mask[i, at] = torch.tensor(text), 1
    return {"input_ids": ids, "attention_mask": mask}


def alone(i: int) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([TEXT[i]])}


def said(model: Any, inputs: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(**inputs).logits
    return logits


def elsewhere(run: Callable[[], Any]) -> Any:
    """What `run` gives in another thread, or its error here."""
    found: list[Any] = []

    def go() -> None:
        try:
            found.append((run(), None))
        except Exception as error:
            found.append((None, error))

    thread = threading.Thread(target=go)
    thread.start()
    thread.join()
    if found[0][1] is not None:
        raise found[0][1]
    return found[0][0]


def fresh(model: Any, method: str, **more: Any) -> adaptr.Adapter:
    return shaken(adaptr.create(model, method, **more), 2, by=0.5)
