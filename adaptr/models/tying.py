"""What transformers ties in a model of a configuration, and whether it can do without.

The classes say it themselves (`_tied_weights_keys`); the model is built without weights, since parts of it may tie too.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.checkpoint.architectures import drawn
from adaptr.checkpoint.built import imagined
from adaptr.errors import CheckpointError, MissingExtra

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FLAG = "tie_word_embeddings"
Groups = tuple[tuple[str, ...], ...]


def groups(config: Mapping[str, Any]) -> Groups:
    """Names of parameters that are one, the source first; nothing where transformers does not know the model."""
    return _known(json.dumps(config, sort_keys=True))[0]


def known(config: Mapping[str, Any]) -> bool:
    """Whether transformers knows the model."""
    return _known(json.dumps(config, sort_keys=True))[1]


@functools.lru_cache(maxsize=8)
def _known(config: str) -> tuple[Groups, bool]:
    document = json.loads(config)
    if not document.get("architectures"):
        return (), False
    if (sketch := drawn(document)) is not None:  # as transformers would say, which takes seconds to ask
        return sketch.ties(), True
    try:
        return _groups(_pairs(imagined(document))), True
    except (CheckpointError, MissingExtra):
        return (), False


def _pairs(model: object) -> dict[str, str]:
    """Parameter to the one that it is tied to."""
    expanded = getattr(model, "get_expanded_tied_weights_keys", None)
    return dict(expanded(all_submodels=True)) if expanded is not None else {}


def _groups(pairs: Mapping[str, str]) -> Groups:
    found: dict[str, list[str]] = {}
    for name, source in pairs.items():
        while source in pairs and pairs[source] != source:
            source = pairs[source]
        found.setdefault(source, [source]).append(name)
    return tuple(tuple(dict.fromkeys(names)) for names in found.values())


def without(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration that ties nothing, said wherever a reader may look: at the top, and in the parts for text."""
    made = copy.deepcopy(dict(config))
    _unset(made)
    made[FLAG] = False
    return made


def _unset(part: dict[str, Any]) -> None:
    for key, value in part.items():
        if isinstance(value, dict) and "model_type" in value and (FLAG in value or key == "text_config"):
            value[FLAG] = False
        if isinstance(value, dict):
            _unset(value)


def separable(config: Mapping[str, Any]) -> bool:
    """Whether the model works with tensors of their own where they are tied now.

    It doesn't where the class ties whatever it is told, and where what it computes depends on the tie (T5 scales).
    """
    try:
        tied, untied = imagined(config), imagined(without(config))
    except (CheckpointError, MissingExtra):
        return False
    return not _pairs(untied) and _rest(tied) == _rest(untied) and not _asks(untied)


def _rest(model: PreTrainedModel) -> object:
    """A model's configuration without what is said of ties, and of where it lay."""

    def but(value: object) -> object:
        kept = isinstance(value, dict) and {k: but(v) for k, v in value.items() if k != FLAG and not k.startswith("_")}
        return value if kept is False else kept

    return but(json.loads(model.config.to_json_string(use_diff=False)))


def _asks(model: PreTrainedModel) -> bool:
    """Whether the model's forward looks at whether it is tied."""
    try:
        return FLAG in inspect.getsource(inspect.unwrap(type(model).forward))
    except (OSError, TypeError):
        return True
