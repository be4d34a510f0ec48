"""Virtual tokens that begin as words: the ids of a text, and what a model's own table makes of ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from adaptr.errors import BadConfig

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def worded(model: nn.Module, method: str, values: dict[str, Any], begins: bool = False) -> dict[str, Any]:
    """`values` with the `ids` of their `text`, and as many `tokens` as ids where that is not said. `begins`: with what
    the tokenizer puts in front of a text.
    """
    if values.get("text") and not values.get("ids"):
        values = {**values, "ids": ids_of(model, method, values["text"], begins)}
    return {**values, "tokens": values.get("tokens", len(values["ids"]))} if values.get("ids") else values


def slotted(model: nn.Module, method: str, values: dict[str, Any]) -> dict[str, Any]:
    """`values` with the `slot` that their `marker` is. Raises `BadConfig` where that is several tokens, or means
    something to the base.
    """
    marker = values.get("marker", "")
    if marker and values.get("slot", -1) < 0:
        tokenizer = tokenizer_of(model, method, "marker", "slot")
        twice: list[int] = tokenizer(f"{marker} {marker}", add_special_tokens=False)["input_ids"]
        added = tokenizer.get_added_vocab().get(marker)  # one token wherever it stands, and spaces are none of it
        if added is not None:
            twice = [added]
        elif len(set(twice)) > 1 or len(twice) != 2:
            raise BadConfig(
                f"`{method}`: `marker`",
                got=f"`{marker}`, {len(twice)} tokens if said twice",
                want="one token each time",
                hint="take one that was added to the tokenizer, or number a token by `slot`",
            )
        values = {**values, "slot": twice[0]}
    slot, said = values.get("slot", -1), vars(model.config)
    if slot < 0:  # as some bases say that they have no token for padding
        return values
    meant = next((name for name in ("pad", "bos", "eos") if slot in _several(said.get(f"{name}_token_id"))), None)
    if meant:
        raise BadConfig(
            f"`{method}`: `slot`", got=f"{slot}, the base's `{meant}`", want="a token that it has no use for"
        )
    return values


def _several(ids: int | list[int] | None) -> list[int]:
    return ids if isinstance(ids, list) else [] if ids is None else [ids]


def ids_of(model: nn.Module, method: str, text: str, begins: bool = False) -> list[int]:
    """The ids of a text by the model's own tokenizer. Raises `BadConfig` where there is none or no id."""
    found: list[int] = tokenizer_of(model, method, "text", "ids")(text, add_special_tokens=begins)["input_ids"]
    if not found:
        raise BadConfig(f"`{method}`: `text`", got="a text of no tokens", want="at least one")
    return found


def tokenizer_of(model: nn.Module, method: str, field: str, instead: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, which reads a `field`. Raises `BadConfig` where there is none."""
    from adaptr.models.load import explained, quiet_transformers

    folder = str(getattr(model.config, "_name_or_path", ""))
    if not folder:
        raise BadConfig(
            f"`{method}`: `{field}` is read by the base's tokenizer, and this model does not say where it was loaded "
            "from",
            hint=f"give `{instead}`",
        )
    found: PreTrainedTokenizerBase = explained(folder, quiet_transformers().AutoTokenizer.from_pretrained)
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
