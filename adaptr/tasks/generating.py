"""Texts that models generate: greedily, so that the same model says the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from adaptr.tasks.base import Tools


def generated(model: nn.Module, ids: list[int], tools: Tools, new: int) -> str:
    """What a causal model says behind `ids`, without the tokens that stand for beginning and end."""
    import torch

    device = next(model.parameters()).device
    asked = torch.tensor([ids], device=device)
    with torch.no_grad():
        said = model.generate(  # type: ignore[operator]
            input_ids=asked,
            attention_mask=torch.ones_like(asked),
            do_sample=False,
            max_new_tokens=new,
            pad_token_id=tools.pad,
        )
    assert tools.tokenizer is not None
    return str(tools.tokenizer.decode(said[0, len(ids) :], skip_special_tokens=True))
