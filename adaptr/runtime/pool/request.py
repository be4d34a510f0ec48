"""What is asked of a pool and what it answers."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, SupportsIndex, cast

import torch
from torch import Tensor

from adaptr.errors import AdaptrError, UsageError, shown

Ended = Literal["eos", "length", "positions", "failed", "refused"]


@dataclass(frozen=True)
class Request:
    """A prompt and who answers. `adapter`: a name, or None for the base. `prompt`: token ids.

    `temperature` 0 takes the likeliest token; else tokens are drawn, with `seed`, from the likeliest that have `top_p`
    of the probability together. `eos`: where to stop; None takes what the model's generation config says. `id`: handed
    back with the answer. Raises `UsageError` for what can't be meant.
    """

    adapter: str | None
    prompt: Sequence[int] | Tensor
    max_new_tokens: int = 32
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    eos: int | Sequence[int] | None = None
    id: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.adapter, str | None):
            raise UsageError("a request's adapter", got=shown(self.adapter), want="a name, or None for the base")
        _require_tokens(self.prompt)
        if whole("max_new_tokens", self.max_new_tokens) < 1:
            raise UsageError("`max_new_tokens`", got=self.max_new_tokens, want="1 or more")
        if not 0 <= _real("temperature", self.temperature) < math.inf or not 0 < _real("top_p", self.top_p) <= 1:
            raise UsageError(
                "`temperature`",
                got=f"{self.temperature:g} and `top_p` {self.top_p:g}",
                want="0 or more, and more than 0 and at most 1",
            )
        if not -(2**63) <= whole("seed", self.seed) < 2**64:
            raise UsageError("the seed", got=self.seed, want="a number of 64 bits")
        ends(self.eos)


@dataclass(frozen=True)
class Answer:
    """`request`: what is answered; answers come as they are done. `tokens`: what was generated, the end included.

    `ended`: by "eos" or "length"; by "positions", where the model has none for a further token; "failed", with the
    reason in `error`, where what the model said is no number, after those tokens; "refused" before the first one, with
    the reason. `version`: of the adapter, which is the one it had when the request joined, from the first token to the
    last.
    """

    request: Request
    tokens: tuple[int, ...]
    ended: Ended
    version: int
    error: AdaptrError | None = None


def ends(eos: int | Iterable[int] | None) -> frozenset[int]:
    """The tokens after which an answer is whole. Raises `UsageError` for what are none."""
    if eos is None:
        return frozenset()
    try:
        return frozenset({whole("eos", eos)} if isinstance(eos, int) else (whole("eos", one) for one in eos))
    except TypeError:
        raise UsageError("`eos`", got=shown(eos), want="a token id or several") from None


def _require_tokens(prompt: object) -> None:
    """Raise `UsageError` unless these are whole numbers, one behind the other: torch would cut others in silence."""
    try:
        ids = torch.as_tensor(prompt)
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(
            "a prompt", got=shown(prompt), want="token ids", hint="the tokenizer makes them of a text"
        ) from None
    if ids.shape == (0,):
        raise UsageError("a prompt has no tokens", hint="give it one at least")
    if ids.ndim != 1 or ids.is_floating_point() or ids.is_complex() or ids.dtype is torch.bool or ids.is_meta:
        raise UsageError(
            "a prompt",
            got=f"{ids.dtype} of shape {tuple(ids.shape)}",
            want="whole numbers of shape (tokens)",
            hint="give one prompt a request",
        )


def whole(name: str, value: object) -> int:
    """`value` as a whole number. Raises `UsageError`."""
    try:
        if not isinstance(value, bool | str):
            return operator.index(cast(SupportsIndex, value))
    except TypeError:
        pass
    raise UsageError(f"`{name}`", got=shown(value), want="a whole number")


def _real(name: str, value: object) -> float:
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    raise UsageError(f"`{name}`", got=shown(value), want="a number")
