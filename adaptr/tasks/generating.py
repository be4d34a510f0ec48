"""Texts that models generate: greedily, so that the same model says the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.tasks.models import placed

if TYPE_CHECKING:
    from torch import nn

    from adaptr.tasks.base import Batch, Tools

#: Tokens of an answer, at most, where nobody says.
NEW = 128


def generated(model: nn.Module, ids: list[int], tools: Tools, new: int) -> str:
    """What a causal model says behind `ids`, without the tokens that stand for beginning and end. Where the model has
    not as many places, less is asked, the end of it, and less is said.
    """
    import torch

    if tools.places:
        ids = ids[-max(tools.places - new, tools.places // 2) :]
        new = min(new, tools.places - len(ids))
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


def written(model: nn.Module, batch: Batch, tools: Tools, new: int = NEW) -> list[str]:
    """What a model of an encoder and a decoder writes to each input of a batch."""
    import torch

    assert tools.tokenizer is not None
    places = getattr(model.config, "max_target_positions", None) or tools.places
    most = min(new, places // 2) if places else new  # Whisper refuses more than fits behind what it begins with
    with torch.no_grad():
        said = model.generate(**placed(model, batch), do_sample=False, num_beams=1, max_new_tokens=most)  # type: ignore[operator]
    return [str(text) for text in tools.tokenizer.batch_decode(said, skip_special_tokens=True)]
