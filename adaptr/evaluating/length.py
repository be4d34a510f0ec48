"""How many tokens a model takes in one row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from adaptr.tasks.base import Tools

#: What configurations call the number of places that there are.
_PLACES = ("max_position_embeddings", "n_positions", "max_seq_len", "max_seq_length")
#: Tokenizers say a number beyond this where they know of none.
_ENDLESS = 1 << 30


def longest(model: nn.Module, tools: Tools) -> int | None:
    """The least of what the configuration, the tokenizer and the table of positions say; None where none says any."""
    config: Any = getattr(model, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    said = [getattr(text, name, None) for name in _PLACES]
    said += [getattr(tools.tokenizer, "model_max_length", None), *_tables(model)]
    return min((n for n in said if isinstance(n, int) and 0 < n < _ENDLESS), default=None)


def _tables(model: nn.Module) -> list[int]:
    """Places of tables whose first rows are for what is filled: such models count positions from behind them."""
    found: list[int] = []
    for name, module in model.named_modules():
        filled: Any = getattr(module, "padding_idx", None)
        if name.endswith("position_embeddings") and isinstance(filled, int):
            found.append(module.num_embeddings - filled - 1)
    return found
