"""LitGPT's LLaMA-Adapter: `lit_model.pth.adapter`, of every layer from one on rows `adapter_wte.weight` (tokens, width)
and a factor for each head, `gating_factor` (1, 1, heads, 1), at first (1, heads, 1, 1).

LitGPT since 0.5 has queries, keys and values one after the other in its projection, and cuts what the rows become as if
they were by groups: with several groups their keys and values come of rows of queries too. Such files, and those of
before that look the same, are refused. Version 2 also scales and shifts what every linear layer puts out, where models
like Llama have no bias that could hold it: it is refused as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, NoAdapterTensors, TensorUnknown, Unsupported, phrases, shown
from adaptr.foreign import NOTHING, Format, Marks, Supplied

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.pieces.module import Layer, Module

_KEY = re.compile(r"transformer\.h\.(?P<number>\d+)\.attn\.(?P<slot>adapter_wte\.weight|gating_factor)", re.DOTALL)
_SECOND = re.compile(r".*\.adapter_(scale|bias)", re.DOTALL)
ROWS, GATE, INSIDE = "adapter_wte.weight", "gating_factor", "model"


class LitgptAdapter(Format):
    name = "litgpt-adapter"
    tool = "LitGPT"
    called = "a LitGPT LLaMA-Adapter"
    marks = Marks(
        files=("lit_model.pth.adapter", "lit_model.pth.adapter_v2"),
        keys=(r"transformer\.h\.\d+\.attn\.(adapter_wte\.weight|gating_factor)",),
    )

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr.checkpoint.skeleton import skeleton
        from adaptr.foreign import placing, saving
        from adaptr.foreign.pieces import assembling
        from adaptr.foreign.pieces.module import Module
        from adaptr.foreign.stored import contents

        weights = self.weights(path)
        tensors, shapes, _ = contents(weights, INSIDE)
        groups = _grouped(shapes)
        model = None if base is None else skeleton(base)
        modules = (
            Module(at, groups[at], {slot: shapes[key] for slot, key in groups[at].items()}, tensors, model)
            for at in placing.ordered(groups)
        )
        layers = [_layer(module, len(groups)) for module in modules]
        return assembling.adapter(layers, tensors, str(weights), saving.told({}))


def _grouped(keys: Iterable[str]) -> Mapping[str, dict[str, str]]:
    """{transformers' path: {slot: key}}. Raises `Unsupported` for version 2, `TensorUnknown` for other names."""
    found: dict[str, dict[str, str]] = {}
    for key in keys:
        match = _KEY.fullmatch(key)
        if match is None and _SECOND.fullmatch(key):
            raise Unsupported(
                f"`{shown(key)}` is of version 2, which shifts the outputs of layers that have no bias, and adaptr has "
                "no method for that",
                hint="merge it with the LitGPT that wrote it, or keep it there",
            )
        if match is None:
            raise TensorUnknown(f"`{shown(key)}` is no tensor of a LitGPT LLaMA-Adapter", hint=phrases.AGAIN)
        slots = found.setdefault(f"model.layers.{int(match['number'])}.self_attn", {})
        if slots.setdefault(match["slot"], key) != key:
            raise ConfigConflict(
                f"`{shown(slots[match['slot']])}` and `{shown(key)}` are one tensor", hint=phrases.AGAIN
            )
    if not found:
        raise NoAdapterTensors("the file holds no tensors of an adapter", hint=phrases.AGAIN)
    return found


def _layer(module: Module, layers: int) -> Layer:
    from adaptr.foreign import placing
    from adaptr.foreign.pieces.module import Layer, complete

    tokens, width = module.shape(ROWS, (2,))
    _, first, heads, _ = module.shape(GATE, (4,))
    old, heads = first > 1, max(first, heads)
    wanted = (1, heads, 1, 1) if old else (1, 1, heads, 1)
    module.require(GATE, module.shapes[GATE] == wanted, f"{wanted}, one for each head")
    values = {"tokens": tokens, "layers": layers, "activation": "none", "width": width, "heads": heads}
    target = placing.attention(
        module.model, Target(module.path, kinds.ATTENTION, (0, 0), complete("llama-adapter", values))
    )
    if not old and target.shape[0] != 1:
        raise Unsupported(
            f"`{module.path}`: LitGPT since 0.5 makes keys and values of its rows by weights of queries too, where a "
            "model has several groups of them, and whether this is of a LitGPT before the file does not say",
            hint="keep it where it was trained; if the base has one group, give it (`--base`)",
        )
    pieces = {"A": module.piece(ROWS, (tokens, width)), "g": module.piece(GATE, (heads, 1, 1))}
    return Layer("llama-adapter", target, pieces)
