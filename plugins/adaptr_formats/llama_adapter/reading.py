"""From LLaMA-Adapter's file to an adapter: prompts, scales and biases, norms."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.errors import ConfigConflict, TensorUnknown, Unsupported, phrases, shown
from adaptr.foreign import placing, saving
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces import assembling
from adaptr.foreign.pieces.module import Module, Whole
from adaptr.foreign.stored import contents
from adaptr_formats.llama_adapter import linear
from adaptr_formats.llama_adapter.prompts import QUERY, Prompts

if TYPE_CHECKING:
    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.pieces.module import Layer

#: What the file of a training has its tensors under.
INSIDE = "model"
_KEY = re.compile(
    r"layers\.(?P<layer>\d{1,6})\.(?:(?P<gate>attention\.gate)|(?P<norm>attention_norm|ffn_norm)\.weight"
    r"|(?P<module>attention\.w[qkvo]|feed_forward\.w[123])_(?P<slot>scale|bias))|(?P<last>norm)\.weight"
)
#: Of version 2 for pictures and what came after it.
_PICTURES = re.compile(r"(visual_|clip|llama\.|image_bind|prefix_).*", re.DOTALL)
#: Its norms as transformers has them.
_NORMS = {"attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}


def read(weights: Path, base: BaseModel | None = None) -> Adapter:
    """Raises a `ForeignError`, a `WrongBase`, or `Unsupported` for what adaptr can't do."""
    from adaptr.checkpoint.skeleton import skeleton

    tensors, shapes, _ = contents(weights, INSIDE)
    model = None if base is None else skeleton(base)
    modules, gates, norms = _grouped(shapes)
    found: list[Layer | Whole] = [Whole(path, Piece(key, shapes[key])) for path, key in norms.items()]
    if QUERY in shapes or gates:
        found += Prompts.of(tensors, shapes, gates).layers(model)
    for path in placing.ordered(modules):
        slots = modules[path]
        module = Module(path, slots, {slot: shapes[key] for slot, key in slots.items()}, tensors, model)
        found += linear.read(module)
    return assembling.adapter(found, tensors, str(weights), saving.told({}))


def _grouped(keys: Iterable[str]) -> tuple[Mapping[str, dict[str, str]], dict[int, str], dict[str, str]]:
    """({path of a linear layer: {slot: key}}, {layer: gate}, {path of a norm's weight: key})."""
    modules: dict[str, dict[str, str]] = {}
    gates: dict[int, str] = {}
    norms: dict[str, str] = {}
    for key in keys:
        match = _match(key)
        if match is None:
            continue
        if match["gate"]:
            other = gates.setdefault(int(match["layer"]), key)
        elif match["module"]:
            path = f"model.layers.{int(match['layer'])}.{linear.NAMES[match['module']]}"
            other = modules.setdefault(path, {}).setdefault(match["slot"], key)
        else:
            path = "model.norm" if match["last"] else f"model.layers.{int(match['layer'])}.{_NORMS[match['norm']]}"
            other = norms.setdefault(f"{path}.weight", key)
        if other != key:
            raise ConfigConflict(f"`{shown(other)}` and `{shown(key)}` are one tensor", hint=phrases.AGAIN)
    return modules, gates, norms


def _match(key: str) -> re.Match[str] | None:
    """What a name says, None for the prompts'."""
    if _PICTURES.fullmatch(key):
        raise Unsupported(
            f"`{shown(key)}` is of a LLaMA-Adapter for pictures, whose features are added to its prompts, and adaptr "
            "has no method for that",
            hint="keep it where it was trained",
        )
    match = _KEY.fullmatch(key)
    if match is None and key != QUERY:
        raise TensorUnknown(f"`{shown(key)}` is no tensor of a LLaMA-Adapter", hint=phrases.AGAIN)
    return match
