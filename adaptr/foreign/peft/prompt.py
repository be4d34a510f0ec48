"""PEFT's PROMPT_TUNING and P_TUNING: method `prompt`. P-tuning files hold the encoder's output, all that is used of it.

For encoder-decoder models PEFT stores twice the rows and uses the first half.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr import kinds
from adaptr.adapter import Target
from adaptr.errors import ConfigConflict, NoAdapterTensors
from adaptr.foreign import same
from adaptr.foreign.draft import Draft, Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import keys

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same


def read(source: Source, model: nn.Module | None) -> Draft:
    """The one target, the model itself."""
    key, shape = embeddings(source)
    tokens = fields_of.size(source.config, "num_virtual_tokens")
    rows = tokens * fields_of.size(source.config, "num_transformer_submodules", 1)
    width = fields_of.size(source.config, "token_dim", shape[1])
    if shape != (rows, width):
        raise ConfigConflict(f"`{key}` has shape {shape}, the configuration wants {(rows, width)}")
    values = {"tokens": tokens, "rows": rows, "init": "normal"}
    return Draft("prompt", values, {"": Target("", kinds.MODEL, (width,), values)}, {":P": Piece(key, shape)})


def embeddings(source: Source) -> tuple[str, tuple[int, ...]]:
    """Key and shape of the virtual tokens, two axes."""
    found = next((key.source for key in source.keys if key.slot == keys.PROMPT), None)
    if found is None:
        raise NoAdapterTensors(f"`{source.path}` has no `{keys.PROMPT}`, which {source.config['peft_type']} stores")
    shape = source.shapes[found]
    if len(shape) != 2:
        raise ConfigConflict(f"`{found}` has shape {shape}, wanted two axes")
    return found, shape


def fields(adapter: Adapter) -> dict[str, Any]:
    """The configuration fields that follow from the prompt."""
    (target,) = adapter.targets.values()
    kept = adapter.foreign.get("peft", {}).get("config", {}).get("peft_type")
    return {
        "peft_type": kept if kept == "P_TUNING" else "PROMPT_TUNING",
        "num_virtual_tokens": target.config["tokens"],
        "num_transformer_submodules": _copies(adapter, target),
        "token_dim": target.shape[0],
    }


def _copies(adapter: Adapter, target: Target) -> int:
    stored = target.config["rows"] // target.config["tokens"]
    return max(int(stored), 2 if keys.two_stacks(adapter.base.architecture) else 1)


def lost(adapter: Adapter) -> list[str]:
    return []


def tensors(adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
    """{adaptr's key: (PEFT's key, tensor)}."""
    (target,) = adapter.targets.values()
    P = same.at(adapter, "")["P"]
    missing = _copies(adapter, target) * target.config["tokens"] - P.shape[0]
    return {":P": (keys.PROMPT, P if missing <= 0 else P.tensor.repeat(2, 1))}
