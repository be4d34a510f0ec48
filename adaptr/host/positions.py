"""The positions of tokens behind padding, for what stands at fixed places: virtual tokens in front of the text."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from adaptr.targets import text_config


def positions_of(mask: Tensor, first: int, length: int) -> Tensor:
    """The positions (batch, length) of the last tokens of `mask` (batch, tokens), padding not counted."""
    counted: Tensor = (mask.long().cumsum(1) - 1).clamp(min=0) + first
    return counted[:, -length:]


def first_position(model: nn.Module) -> int:
    """The position of a first token: RoBERTa-likes count from behind their padding index."""
    tables = (m for name, m in model.named_modules() if name.endswith("position_embeddings"))
    padding = getattr(next(tables, None), "padding_idx", None)
    return 0 if padding is None else int(padding) + 1


def backbone(model: nn.Module) -> nn.Module | None:
    """The part of `model` that counts positions from 0 on where it is given none; None where there is no such part.

    Encoder-decoder models take no positions, and those of several axes find their own, by the mask.
    """
    config = getattr(model, "config", None)
    found = getattr(model, "base_model", model)
    rotary = getattr(text_config(model), "rope_parameters", None) or {}
    if getattr(config, "is_encoder_decoder", False) or "mrope_section" in rotary or not isinstance(found, nn.Module):
        return None
    return found if "position_ids" in inspect.signature(type(found).forward).parameters else None


class Positions:
    """A pre-hook of a backbone: where a mask says what is padding, positions count what is not, as `generate` has it.

    A rotary model without a prefix sees distances alone, and needs none; a prefix stands at places of its own.
    """

    def __init__(self, module: nn.Module) -> None:
        self.names = list(inspect.signature(type(module).forward).parameters)[1:]
        self.first = first_position(module)

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[()], dict[str, Any]] | None:
        given = {**dict(zip(self.names, args, strict=False)), **kwargs}
        mask, tokens = given.get("attention_mask"), given.get("input_ids")
        tokens = given.get("inputs_embeds") if tokens is None else tokens
        if not isinstance(mask, Tensor) or mask.ndim != 2 or tokens is None or given.get("position_ids") is not None:
            return None
        return (), {**given, "position_ids": positions_of(mask, self.first, tokens.shape[1])}
