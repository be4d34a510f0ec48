"""From LitGPT's file to an adapter: prompts, and of version 2 scales, shifts and norms."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.adapter import Target, kinds
from adaptr.errors import Unsupported
from adaptr.foreign import placing, saving
from adaptr.foreign.draft import Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.pieces import assembling, cuts
from adaptr.foreign.pieces.module import Layer, Module, Whole, complete
from adaptr.foreign.stored import contents
from adaptr_formats.litgpt.config import Said
from adaptr_formats.litgpt.reading import FUSED, PROJECTIONS
from adaptr_formats.litgpt_adapter import names
from adaptr_formats.litgpt_adapter.names import BIAS, GATE, ROWS, SCALE, WEIGHT

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel


def read(weights: Path, base: BaseModel | None) -> Adapter:
    """Raises a `ForeignError`, a `WrongBase`, or `Unsupported` for what adaptr can't do."""
    from adaptr.checkpoint.skeleton import skeleton

    said = Said.beside(weights)
    tensors, shapes, _ = contents(weights, names.INSIDE)
    model = None if base is None else skeleton(base)
    groups = {path: (name, slots) for (path, name), slots in names.grouped(list(shapes)).items() if name != FUSED}
    fused = {path: slots for (path, name), slots in names.grouped(list(shapes)).items() if name == FUSED}
    prompts = sum(ROWS in slots for _, slots in groups.values())
    found: list[Layer | Whole] = []
    for path in placing.ordered(groups):
        slots = groups[path][1]
        module = Module(path, slots, {slot: shapes[key] for slot, key in slots.items()}, tensors, model)
        if WEIGHT in slots:
            found.append(Whole(f"{path}.weight", module.piece(WEIGHT, module.shape(WEIGHT, (1,)))))
        else:
            found.append(_prompts(module, prompts, said) if path.endswith(names.ATTENTION) else _scaled(module))
    for path in placing.ordered(fused):
        slots = fused[path]
        found += _parts(Module(path, slots, {s: shapes[key] for s, key in slots.items()}, tensors, model), said)
    return assembling.adapter(found, tensors, str(weights), saving.told({}))


def _prompts(module: Module, layers: int, said: Said) -> Layer:
    tokens, width = module.shape(ROWS, (2,))
    _, first, heads, _ = module.shape(GATE, (4,))
    old, heads = first > 1, max(first, heads)
    wanted = (1, heads, 1, 1) if old else (1, 1, heads, 1)
    module.require(GATE, module.shapes[GATE] == wanted, f"{wanted}, one for each head")
    values = {"tokens": tokens, "layers": layers, "activation": "none", "width": width, "heads": heads}
    target = Target(module.path, kinds.ATTENTION, (0, 0), complete("llama-adapter", values))
    target = placing.attention(module.model, target)
    groups = target.shape[0] or (fields_of.size(said.model, "n_query_groups", heads) if said.model else 0)
    if not old and groups != 1:
        raise Unsupported(
            f"`{module.path}`: LitGPT since 0.5 makes keys and values of its rows by weights of queries too, where a "
            "model has several groups of them, and whether this is of a LitGPT before the file does not say",
            hint="keep it where it was trained; if the base has one group, give it (`--base`)",
        )
    pieces = {"A": module.piece(ROWS, (tokens, width)), "g": module.piece(GATE, (heads, 1, 1))}
    return Layer("llama-adapter", target, pieces)


def _scaled(module: Module) -> Layer:
    (out,) = module.shape(SCALE, (1,))
    module.require(BIAS, module.shape(BIAS, (1,)) == (out,), f"({out},), as `{SCALE}` has")
    return _layer(module, module.path, 0, out)


def _parts(module: Module, said: Said) -> Iterator[Layer]:
    """A layer for each of queries, keys and values, whose rows follow one another."""
    sizes = _sizes(module, said)
    for slot in (SCALE, BIAS):
        found = module.shape(slot, (1,))
        module.require(slot, found == (sum(sizes),), f"{sum(sizes)} numbers, as queries, keys and values have rows")
    for name, size, start in zip(PROJECTIONS, sizes, [0, *itertools.accumulate(sizes)], strict=False):
        yield _layer(module, f"{module.path}.{name}", start, size)


def _sizes(module: Module, said: Said) -> list[int]:
    """The rows of queries, keys and values, as the base has them, or the model's configuration."""
    if module.model is None:
        return list(said.rows())
    why = "how many rows it has"
    return [placing.place(module.model, f"{module.path}.{name}", why).shape[0] for name in PROJECTIONS]


def _layer(module: Module, path: str, start: int, out: int) -> Layer:
    target = Target(path, kinds.LINEAR, (out, 0), complete("scale-shift", {"shift": "always"}))
    scale = partial(cuts.rows, start, out)

    def shift(bias: Tensor) -> Tensor:
        made = scale(module.file[module.keys[SCALE]]).double() * scale(bias).double()
        return made.to(bias.dtype)

    pieces = {"s": Piece(module.keys[SCALE], (out,), then=scale), "t": Piece(module.keys[BIAS], (out,), then=shift)}
    return Layer("scale-shift", placing.agreed(module.model, target), pieces)
