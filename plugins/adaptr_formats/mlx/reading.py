"""From MLX-LM's files to an adapter."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, NoAdapterTensors, TensorUnknown, Unsupported, phrases, shown
from adaptr.foreign import NOTHING, Supplied, placing, saving
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces import assembling
from adaptr.foreign.pieces.module import Layer, Module, Whole, complete
from adaptr.foreign.seen import config_of
from adaptr.foreign.stored import contents
from adaptr_formats.mlx import whole
from adaptr_formats.mlx.config import DORA, FULL, LORA, Said

if TYPE_CHECKING:
    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel

A, B, MAGNITUDE = "lora_a", "lora_b", "m"
_KEY = re.compile(r"(?P<path>.+)\.(?P<slot>lora_a|lora_b|m)", re.DOTALL)


def read(weights: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
    """The adapter in a file. `supplied`: alpha or scale, where its configuration has none.

    Raises a `ForeignError`, a `WrongBase`, or `Unsupported` for what adaptr can't do.
    """
    from adaptr.checkpoint.skeleton import skeleton

    said = Said.of(config_of(weights.parent))
    tensors, shapes, metadata = contents(weights)
    if not shapes:
        raise NoAdapterTensors(f"`{weights}` holds no tensor at all", hint=phrases.AGAIN)
    found: list[Layer | Whole]
    if said.method == FULL:
        supplied.refuse("whole parameters have none", "alpha", "scale")
        found = whole.layers(shapes, tensors, base)
    else:
        model = None if base is None else skeleton(base)
        modules = {
            path: Module(path, slots, {slot: shapes[key] for slot, key in slots.items()}, tensors, model)
            for path, slots in _grouped(shapes).items()
        }
        said.require_places(modules, model)
        method = said.method or (DORA if any(module.has(MAGNITUDE) for module in modules.values()) else LORA)
        found = [_layer(modules[path], method, said, supplied) for path in placing.ordered(modules)]
    made = assembling.adapter(found, tensors, str(weights), saving.told(metadata))
    made = made.replace(base=dataclasses.replace(made.base, id=said.model))
    kept = {"config": said.kept(), "paths": placing.ordered(made.targets)}
    return made.replace(foreign={"mlx": kept} if said.config else {})


def _grouped(keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """{path of a module: {slot: key}}. Raises `TensorUnknown` for what is none of MLX-LM's."""
    found: dict[str, dict[str, str]] = {}
    for key in keys:
        match = _KEY.fullmatch(key)
        if match is None:
            raise TensorUnknown(f"`{shown(key)}` is no factor or magnitude as MLX-LM has them", hint=phrases.AGAIN)
        found.setdefault(match["path"], {})[match["slot"]] = key
    return found


def _layer(module: Module, method: str, said: Said, supplied: Supplied) -> Layer:
    """The method `lora` or `dora` at a module."""
    if len(module.shape(A, (2, 3))) == 3:
        raise Unsupported(
            f"`{module.keys[A]}` has factors for each expert of a stack, which adaptr can't read from MLX's files yet",
            hint="fuse it into its base (`mlx_lm.fuse`), and extract the difference (`adaptr extract`)",
        )
    (into, r), (_, out) = module.shapes[A], module.shape(B, (2,))
    module.require(B, module.shapes[B][0] == r, f"({r}, {out}), as `{A}` has rank {r}")
    if said.rank not in (None, r):
        raise ConfigConflict(
            f"`{module.path}`", verb="has", got=f"rank {r}", want=f"{said.rank}, as `rank` says", hint=phrases.AGAIN
        )
    kind = kinds.TABLE if module.model is None and placing.is_table(module.path) else kinds.LINEAR
    values = complete(method, {"r": r, "alpha": said.alpha(r, supplied), "dropout": said.dropout})
    target = placing.agreed(module.model, Target(module.path, kind, (out, into), values))
    pieces = {"A": module.piece(A, (r, into), (1, 0)), "B": module.piece(B, (out, r), (1, 0))}
    return Layer(method, target, pieces | _magnitudes(module, method, target))


def _magnitudes(module: Module, method: str, target: Target) -> dict[str, Piece]:
    """Raises `Unsupported` for those of a table, which are of its rows; adaptr's, as PEFT's, are of its columns."""
    if method == LORA:
        if module.has(MAGNITUDE):
            raise ConfigConflict(
                f"`{module.keys[MAGNITUDE]}` is a magnitude, and the configuration says `lora`", hint=phrases.AGAIN
            )
        return {}
    if target.kind == kinds.TABLE:
        raise Unsupported(
            f"`{module.path}`: MLX's DoRA has a magnitude for each row of a table, which adaptr's `dora` has not",
            hint="fuse it into its base (`mlx_lm.fuse`), and extract the difference (`adaptr extract`)",
        )
    out = target.shape[0]
    module.require(MAGNITUDE, module.shape(MAGNITUDE, (1,)) == (out,), f"({out},)")
    return {"m": module.piece(MAGNITUDE, (out,))}
