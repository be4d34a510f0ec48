"""From pyreft's folder to an adapter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, ConfigMissing, TargetNotFound, TensorAbsent, Unsupported, phrases, shown
from adaptr.foreign import NOTHING, Supplied, placing, saving
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces import assembling
from adaptr.foreign.pieces.module import Layer, Module, complete
from adaptr.foreign.stored import contents
from adaptr.foreign.supplied import ends
from adaptr_formats.pyreft import kinds_of
from adaptr_formats.pyreft.config import BLOCKS, POSITIONS, One, Said
from adaptr_formats.pyreft.named import BEGINS, ENDS, SETTINGS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel


@dataclass(frozen=True)
class Opened:
    """The tensors of all files, by `KEY/NAME`."""

    tensors: Mapping[str, Tensor]
    shapes: Mapping[str, tuple[int, ...]]
    model: nn.Module | None

    def module(self, path: str, one: One) -> Module:
        keys = {key.partition("/")[2]: key for key in self.shapes if key.startswith(f"{one.key}/")}
        return Module(path, keys, {slot: self.shapes[key] for slot, key in keys.items()}, self.tensors, self.model)


def read(weights: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
    """Raises a `ForeignError`, a `WrongBase`, or `Unsupported` for what adaptr can't do."""
    from adaptr.checkpoint.skeleton import skeleton

    said = Said.of(weights.parent / SETTINGS)
    model = None if base is None else skeleton(base)
    opened = _opened(weights.parent, said, model)
    numbers = _positions(said, supplied)
    placed: dict[str, list[One]] = {}
    for one in said.every:
        placed.setdefault(one.path or _block(model, said, one.layer), []).append(one)
    layers = [_layer(opened, path, placed[path], numbers) for path in placing.ordered(placed)]
    return assembling.adapter(
        layers, opened.tensors, str(weights), saving.told({saving.ABOUT: said.text(saving.ABOUT) or "{}"})
    )


def _opened(folder: Path, said: Said, model: nn.Module | None) -> Opened:
    tensors: dict[str, Tensor] = {}
    for one in said.every:
        file = folder / f"{BEGINS}{one.key}{ENDS}"
        if not file.is_file():
            raise TensorAbsent(f"there is no `{file.name}`, which `{SETTINGS}` says of", hint=phrases.AGAIN)
        tensors |= {f"{one.key}/{name}": value for name, value in contents(file)[0].items()}
    return Opened(tensors, {key: tuple(value.shape) for key, value in tensors.items()}, model)


def _positions(said: Said, supplied: Supplied) -> tuple[int, int]:
    own = said.text(POSITIONS)
    if own:
        supplied.refuse(f"`{SETTINGS}` says at how many tokens it is", "positions")
    if not own and supplied.positions is None:
        raise ConfigMissing(
            "at how many of a prompt's first and last tokens it was trained is in no file of pyreft's",
            hint="say it (`--positions f7+l7`, `adaptr.source` in Python), as the code that trained it has it",
        )
    return ends(own or str(supplied.positions))


def _block(model: nn.Module | None, said: Said, layer: int) -> str:
    """The path of a block, by its number."""
    own = said.text(BLOCKS)
    if model is None and own:
        if not re.fullmatch(r"\w+(\.\w+)*", own):
            raise ConfigConflict(f"`{BLOCKS}`", got=f"`{shown(own)}`", want="the path of a list", hint=phrases.AGAIN)
        return f"{own}.{layer}"
    from adaptr import targets as places

    known = placing.needed(model, f"block {layer}", "what a model calls its blocks is in no file of pyreft's")
    found = [place.path for place in places.resolve(known, "block_out", {kinds.PLACE})]
    path = next((path for path in found if path.rpartition(".")[2] == str(layer)), "")
    if not path:
        raise TargetNotFound(f"the base has no block {layer}", hint=phrases.BASE)
    return path


def _layer(opened: Opened, path: str, found: list[One], numbers: tuple[int, int]) -> Layer:
    """One intervention for both ends of a prompt, or one for each."""
    first, last = numbers
    sizes = {(one.kind, one.r) for one in found}
    if len(found) > 2 or len(sizes) > 1 or (len(found) == 2 and not (first and last)):
        raise Unsupported(
            f"`{path}` has {len(found)} interventions, and adaptr has one for the first tokens and one for the last, "
            "of the same sort and rank",
            hint="say the positions of both (`--positions f7+l7`), or keep it in pyreft",
        )
    method, r = kinds_of.method(found[0].kind), found[0].r
    values: dict[str, Any] = {
        "r": r, "first": first, "last": last, "share_weights": len(found) == 1,
        **({"finished": True} if method == "loreft" else {}),
    }  # fmt: skip
    units = [kinds_of.Unit(opened.module(path, one), r) for one in found]
    target = Target(path, kinds.PLACE, (units[0].width,), complete(method, values))
    pieces = dict(_pieces(units, found[0].kind))
    return Layer(method, placing.output(opened.model, target), pieces)


def _pieces(units: list[kinds_of.Unit], kind: str) -> Iterator[tuple[str, Piece]]:
    for unit, suffix in zip(units, ("", "_s"), strict=False):
        yield from ((f"{name}{suffix}", piece) for name, piece in unit.pieces(kind).items())
