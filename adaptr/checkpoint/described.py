"""The `config.json` of a base model: what adaptr looks at has the type that transformers writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adaptr.errors import CheckpointError, shown
from adaptr.untrusted import json_file

#: What GPTQ's tools wrote of what they did before `config.json` said it.
QUANTISED = "quantize_config.json"


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


#: What a field must be where it is there and not null.
FIELDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "architectures": ("a list of names", lambda it: isinstance(it, list) and all(isinstance(n, str) for n in it)),
    "model_type": ("a name", lambda it: isinstance(it, str)),
    "vocab_size": ("a whole number", _is_count),
    "num_attention_heads": ("a whole number", _is_count),
    "num_key_value_heads": ("a whole number", _is_count),
    "tie_word_embeddings": ("true or false", lambda it: isinstance(it, bool)),
    "quantization_config": ("an object", lambda it: isinstance(it, dict)),
}


def read(path: Path) -> dict[str, Any]:
    """The configuration in a file. Raises `CheckpointError`, which names the field that is something else."""
    found = json_file(path, CheckpointError)
    for field, (wanted, right) in FIELDS.items():
        if found.get(field) is not None and not right(found[field]):
            raise CheckpointError(f"`{path}`: `{field}`", got=f"`{shown(found[field])}`", want=f"{wanted}")
    return found


def quantised(folder: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration, with what stands in a file of its own on how the weights are packed. Raises as `read` does."""
    file = folder / QUANTISED
    if config.get("quantization_config") or not file.is_file():
        return config
    return {**config, "quantization_config": {"quant_method": "gptq", **json_file(file, CheckpointError)}}
