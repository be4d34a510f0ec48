"""Entries of trained tensors that learn while the others stay as they are: what sparse fine-tuning selects."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from adaptr.contract.lifecycle import MASK

if TYPE_CHECKING:
    from adaptr.host.session import Session


class _One(NamedTuple):
    """`kept`: the values as they were when the mask was put on, which those outside of it keep."""

    entries: Tensor
    kept: Tensor
    hook: Any


class Masks:
    """Those of a session's memory, `<key>.mask`, each put on its tensor once.

    Gradients outside of a mask are zero, so that no norm counts them; and as decay moves values without a gradient,
    they are put back after each step.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._on: dict[str, _One] = {}

    def heed(self) -> None:
        """Put on those that aren't."""
        wanted = [key.removesuffix(MASK) for key in self.session.memory if key.endswith(MASK)]
        if len(wanted) == len(self._on):
            return
        known = self.session.named()
        for key in wanted:
            if key in known and key not in self._on:
                p = known[key]
                entries = self.session.memory[key + MASK].to(p.device)
                hook = p.register_hook(functools.partial(torch.mul, entries))  # type: ignore[no-untyped-call]
                self._on[key] = _One(entries, p.detach().clone(), hook)

    def keep(self) -> None:
        """Give what doesn't learn its values back."""
        known = self.session.named() if self._on else {}
        for key, one in self._on.items():
            with torch.no_grad():
                known[key].copy_(torch.where(one.entries, known[key], one.kept))

    def drop(self, key: str = "") -> None:
        """Take one off, or all."""
        for name in [name for name in self._on if key in {"", name}]:
            self._on.pop(name).hook.remove()
