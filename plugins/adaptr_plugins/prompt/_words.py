"""Virtual tokens that begin as words: the ids of a text, and what a model's own table makes of ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from adaptr.errors import BadConfig

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


def worded(model: nn.Module, method: str, values: dict[str, Any], begins: bool = False) -> dict[str, Any]:
    """`values` with the `ids` of their `text`, and as many `tokens` as ids where that is not said. `begins`: with what
    the tokenizer puts in front of a text.
    """
    if values.get("text") and not values.get("ids"):
        values = {**values, "ids": ids_of(model, method, values["text"], begins)}
    return {**values, "tokens": values.get("tokens", len(values["ids"]))} if values.get("ids") else values


def ids_of(model: nn.Module, method: str, text: str, begins: bool = False) -> list[int]:
    """The ids of a text by the model's own tokenizer. Raises `BadConfig` where there is none or no id."""
    from adaptr.models.load import explained, quiet_transformers

    folder = str(getattr(model.config, "_name_or_path", ""))
    if not folder:
        raise BadConfig(
            f"`{method}`: `text` is read by the base's tokenizer, and this model does not say where it was loaded from",
            hint="give `ids`",
        )
    tokenizer = explained(folder, quiet_transformers().AutoTokenizer.from_pretrained)
    found: list[int] = tokenizer(text, add_special_tokens=begins)["input_ids"]
    if not found:
        raise BadConfig(f"`{method}`: `text`", got="a text of no tokens", want="at least one")
    return found


def table_of(model: nn.Module) -> nn.Embedding:
    """The table of a model's words."""
    return cast("nn.Embedding", cast("PreTrainedModel", model).get_input_embeddings())


def embedded(model: nn.Module, method: str, ids: Sequence[int]) -> Tensor:
    """The rows (n, d) of ids in the model's table, by calling it, since some scale their output."""
    import torch

    table = table_of(model)
    wrong = [i for i in ids if not 0 <= i < table.num_embeddings]
    if wrong:
        raise BadConfig(f"`{method}`: `ids`", got=wrong[0], want=f"0 to {table.num_embeddings - 1}, the base's ids")
    found: Tensor = table(torch.tensor(list(ids), device=table.weight.device))
    return found.detach().float().cpu()
