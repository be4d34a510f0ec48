"""AdapterHub's classification heads beside an adapter, as whole parameters of a model that has such a head itself.

Its heads are layers of their own, each behind the other with a function between. A model of transformers for the
classification of texts has one layer or two, of its own names: where these are the same computation, they are taken.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.errors import ForeignError, WeightsIgnored, shown
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces.module import Whole
from adaptr.foreign.placing import ordered
from adaptr.foreign.stored import contents
from adaptr.untrusted import json_file

if TYPE_CHECKING:
    from torch import nn

CONFIG = "head_config.json"
FILES = ("model_head.safetensors", "pytorch_model_head.bin")


@dataclass(frozen=True)
class Layout:
    """The layers of a head by their paths, and the function between two. Without `bias` the last has none."""

    layers: tuple[str, ...]
    function: str = ""
    bias: bool = True


_ROBERTA = Layout(("classifier.dense", "classifier.out_proj"), "tanh")
_LAST = Layout(("score",), bias=False)
LAYOUTS = {
    "BertForSequenceClassification": Layout(("bert.pooler.dense", "classifier"), "tanh"),
    "RobertaForSequenceClassification": _ROBERTA,
    "XLMRobertaForSequenceClassification": _ROBERTA,
    "ElectraForSequenceClassification": Layout(_ROBERTA.layers, "gelu"),
    "DistilBertForSequenceClassification": Layout(("pre_classifier", "classifier"), "relu"),
    "GPT2ForSequenceClassification": _LAST,
    "LlamaForSequenceClassification": _LAST,
    "MistralForSequenceClassification": _LAST,
}


def read(folder: Path, model: nn.Module | None) -> tuple[list[Whole], tuple[str, ...]]:
    """What of the head in a folder the model has a place for, and the names of the files that it came from.

    Warns (`WeightsIgnored`) where it is left out of a model for classification, with the reason.
    """
    layout = LAYOUTS.get(type(model).__name__)
    file = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if model is None or layout is None or file is None or not (folder / CONFIG).is_file():
        return [], ()
    said = json_file(folder / CONFIG, ForeignError).get("config")
    tensors, shapes, _ = contents(file)
    why = _unlike(said if isinstance(said, dict) else {}, layout) or _misshapen(model, layout, shapes)
    if why:
        warnings.warn(f"the head in `{folder}` is left out: {why}", WeightsIgnored, stacklevel=4)
        return [], ()
    found = {path: Piece("", shapes[key], value=tensors[key]) for path, key in _paths(layout, shapes).items()}
    return [Whole(path, piece) for path, piece in found.items()], tuple(
        name for name in FILES if (folder / name).is_file()
    )


def _unlike(said: Mapping[str, Any], layout: Layout) -> str:
    """Why it computes something else than the model's, "" where it does not."""
    count = len(layout.layers)
    if said.get("head_type") != "classification":
        return f"it is of `{shown(str(said.get('head_type')))}`, and the model classifies texts"
    if said.get("use_pooler"):
        return "it reads what the base's pooler makes, which is no part of the file"
    if said.get("layers") != count:
        return f"it has {said.get('layers')} layers, and the model's {count}"
    if count > 1 and said.get("activation_function") != layout.function:
        between = shown(str(said.get("activation_function")))
        return f"it has `{between}` between its layers, and the model `{layout.function}`"
    if bool(said.get("bias", True)) != layout.bias:
        return (
            "its last layer has no bias, and the model's has" if layout.bias else "it has a bias, and the model's none"
        )
    return ""


def _paths(layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """The model's parameters, with the file's keys."""
    layers = ordered({key.rpartition(".")[0] for key in shapes})
    return {
        f"{path}.{name}": f"{layer}.{name}"
        for path, layer in zip(layout.layers, layers, strict=False)
        for name in ("weight", "bias")
        if f"{layer}.{name}" in shapes
    }


def _misshapen(model: nn.Module, layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> str:
    own = {name: tuple(p.shape) for name, p in model.named_parameters() if name.rpartition(".")[0] in layout.layers}
    found = {path: shapes[key] for path, key in _paths(layout, shapes).items()}
    if own == found and len(found) == len(shapes):
        return ""
    return f"it has shapes {list(found.values())}, and the model's head {list(own.values())}"
