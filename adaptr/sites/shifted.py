"""Attention whose text stands at positions P, P+1, ..., as where P virtual tokens went through the cache in training.

With rotary positions the keys are turned back by P instead, which is exact. With learned positions the position table
is read P further on. Other schemes are refused.
"""

from __future__ import annotations

import sys
from typing import Any, cast

import torch
from torch import Tensor, nn

from adaptr import targets
from adaptr.errors import Unsupported
from adaptr.host.state import State
from adaptr.sites.attention import Attend, Attended, Attention
from adaptr.sites.base import Undo


class Shifted(Attention):
    name = "shifted"
    apart = False  # it moves the text of all rows

    def mount(self, model: nn.Module, key: str, state: State) -> Undo:
        back = _shift(model, targets.submodule(model, state.mount.path), state)
        off = super().mount(model, key, state)

        def undo() -> None:
            off()
            back()

        return undo

    def around(self, below: Attend, state: State, module: nn.Module) -> Attend:  # type: ignore[override]
        def alone(a: Attended) -> Any:
            return below(a._replace(turn=None))

        above = super().around(alone, state, module)
        return lambda a: above(a._replace(turn=state._buffers.get("rotation")))


def rotary_of(model: nn.Module) -> nn.Module | None:
    """What gives a model's rotary positions, None where there is none."""
    return next((m for name, m in model.named_modules() if name.endswith("rotary_emb")), None)


def _shift(model: nn.Module, module: nn.Module, state: State) -> Undo:
    rotary = rotary_of(model)
    if rotary is not None:
        device = next(iter(state.parameters())).device
        turn = rotation(rotary, module, state.target.shape[1], state.cfg.tokens, state.target.path).to(device)
        state.register_buffer("rotation", turn, persistent=False)
        return lambda: None
    table = _position_table(model)
    if table is None:
        raise Unsupported(
            f"`{state.target.path}`: this prefix was trained with shifted positions, and this model's positions "
            "are neither rotary nor a learned table, so it can't be applied exactly",
            hint="train it with `position_offset` none, or use the base that it was trained on",
        )
    count = table.__dict__.setdefault("_adaptr_shift", [0, None])
    if count[0] == 0:
        count[1] = table.register_forward_pre_hook(Shift(state.cfg.tokens))
    count[0] += 1

    def undo() -> None:
        count[0] -= 1
        if count[0] == 0:
            count[1].remove()
            del table.__dict__["_adaptr_shift"]

    return undo


class Shift:
    """A pre-hook of a position table: the same positions, `by` further on."""

    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (args[0] + self.by, *args[1:])


def _position_table(model: nn.Module) -> nn.Module | None:
    ends = ("wpe", "position_embeddings")
    found = (m for name, m in model.named_modules() if name.endswith(ends) and isinstance(m, nn.Embedding))
    return next(found, None)


def rotation(rotary: nn.Module, module: nn.Module, width: int, by: int, path: str) -> Tensor:
    """The rotation of keys of a `module` by so many positions back, as a matrix (width, width) to multiply from the
    right. Raises `Unsupported` where it is not exact; `path` is what the refusal calls the module.

    Made of the model's own `rotate_half`, so that halves, pairs and partly rotated heads come out as the model has
    them.
    """
    config = getattr(rotary, "config", None)
    kind = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    turn = getattr(sys.modules[type(module).__module__], "rotate_half", None)
    if kind in {"dynamic", "longrope"} or turn is None or not hasattr(rotary, "inv_freq"):
        raise Unsupported(
            f"`{path}`: a prefix with shifted positions can't be turned back exactly with this model's `{kind}` rotary "
            "positions",
            hint="train it with `position_offset` none",
        )
    at = torch.tensor([[by]], device=cast(Tensor, rotary.inv_freq).device)
    cos, sin = rotary(torch.zeros(1, 1, 1, device=at.device), at)
    scaling = float(getattr(rotary, "attention_scaling", 1.0))
    R = torch.eye(width, device=at.device)
    part = R[: cos.shape[-1], : cos.shape[-1]]
    R[: cos.shape[-1], : cos.shape[-1]] = (part * cos[0] - turn(part) * sin[0]) / scaling
    return R


SITE = Shifted()
