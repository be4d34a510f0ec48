"""From LitGPT's file to an adapter."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, NoAdapterTensors, TensorUnknown, Unsupported, phrases, shown
from adaptr.foreign import NOTHING, Supplied, placing, saving
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces import assembling, cuts
from adaptr.foreign.pieces.module import Layer, Module, complete
from adaptr.foreign.stored import contents
from adaptr_formats.litgpt.config import Said

if TYPE_CHECKING:
    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel

A, B = "lora_A", "lora_B"
#: Where the file has its tensors.
INSIDE = "model"
_KEY = re.compile(r"(transformer\.h\.(?P<number>\d+)\.)?(?P<name>[\w.]+)\.(?P<slot>lora_[AB])", re.DOTALL)
FUSED = "attn.qkv"
#: Modules of a layer and outside, as transformers calls them in models like Llama.
LAYER = {
    FUSED: "self_attn", "attn.proj": "self_attn.o_proj", "mlp.fc_1": "mlp.gate_proj", "mlp.fc_2": "mlp.up_proj",
    "mlp.proj": "mlp.down_proj",
}  # fmt: skip
OUTSIDE = {"lm_head": "lm_head"}
PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def read(weights: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
    """The adapter in a file. `supplied`: what its hyperparameters say where they are not beside it.

    Raises a `ForeignError`, a `WrongBase`, or `Unsupported` for what adaptr can't do.
    """
    from adaptr.checkpoint.skeleton import skeleton

    said = Said.beside(weights)
    tensors, shapes, _ = contents(weights, INSIDE)
    model = None if base is None else skeleton(base)
    groups = _grouped(shapes)
    layers: list[Layer] = []
    for path in placing.ordered(groups):
        slots = groups[path]
        module = Module(path, slots, {slot: shapes[key] for slot, key in slots.items()}, tensors, model)
        layers += _parts(module, said, supplied) if path.endswith("self_attn") else [_plain(module, said, supplied)]
    if not any(path.endswith("self_attn") for path in groups):
        supplied.refuse("no module of the file is a fused projection", "enable_lora")
    return assembling.adapter(layers, tensors, str(weights), saving.told({}))


def _grouped(keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """{transformers' path: {slot: key}}; of a fused projection the path of its attention."""
    found: dict[str, dict[str, str]] = {}
    for key in keys:
        match = _KEY.fullmatch(key)
        if match is not None and match["name"] == "attn.attn":
            raise Unsupported(
                f"`{shown(key)}` is of a LitGPT before 0.5, which mixed queries, keys and values in one projection",
                hint="merge it with the LitGPT that wrote it, and extract the difference (`adaptr extract`)",
            )
        known = (OUTSIDE if match["number"] is None else LAYER).get(match["name"], "") if match else ""
        if match is None or not known:
            raise TensorUnknown(
                f"`{shown(key)}` is no tensor of a LitGPT LoRA on a model like Llama", hint=phrases.AGAIN
            )
        path = known if match["number"] is None else f"model.layers.{int(match['number'])}.{known}"
        other = found.setdefault(path, {}).setdefault(match["slot"], key)
        if other != key:
            raise ConfigConflict(f"`{shown(other)}` and `{shown(key)}` are one tensor", hint=phrases.AGAIN)
    if not found:
        raise NoAdapterTensors("the file holds no tensors of an adapter", hint=phrases.AGAIN)
    return found


def _plain(module: Module, said: Said, supplied: Supplied) -> Layer:
    (r, into), (out, _) = module.shape(A, (2,)), module.shape(B, (2,))
    module.require(B, module.shapes[B] == (out, r), f"({out}, {r}), as `{A}` has rank {r}")
    pieces = {"A": module.piece(A, (r, into)), "B": module.piece(B, (out, r))}
    return _layer(module, module.path, (out, into), r, pieces, said, supplied)


def _parts(module: Module, said: Said, supplied: Supplied) -> Iterator[Layer]:
    """A layer for each of queries, keys and values that has factors: rows of both, one after the other."""
    (rank, into), (out, r) = module.shape(A, (2,)), module.shape(B, (2,))
    enabled = said.parts(supplied)
    sizes = [size if on else 0 for size, on in zip(said.rows(), enabled, strict=True)]
    module.require(A, rank == r * sum(enabled), f"{r * sum(enabled)} rows, of {sum(enabled)} parts of rank {r}")
    module.require(B, out == sum(sizes), f"{sum(sizes)} rows, as the parts have")
    starts = [0, *itertools.accumulate(sizes)]
    for number, name in enumerate(name for name, on in zip(PROJECTIONS, enabled, strict=True) if on):
        part = PROJECTIONS.index(name)
        start, size = starts[part], sizes[part]
        pieces = {
            "A": Piece(module.keys[A], (r, into), then=partial(cuts.rows, number * r, r)),
            "B": Piece(module.keys[B], (size, r), then=partial(cuts.rows, start, size)),
        }
        yield _layer(module, f"{module.path}.{name}", (size, into), r, pieces, said, supplied)


def _layer(
    module: Module,
    path: str,
    shape: tuple[int, int],
    r: int,
    pieces: dict[str, Piece],
    said: Said,
    supplied: Supplied,
) -> Layer:
    values = complete("lora", {"r": r, "alpha": said.alpha(r, supplied), "dropout": said.dropout})
    return Layer("lora", placing.agreed(module.model, Target(path, kinds.LINEAR, shape, values)), pieces)
