"""PEFT's SHIRA: method `shira`. Places are (2, n) rows and columns there, flat indices here."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from adaptr import kinds
from adaptr.adapter import Target
from adaptr.errors import ConfigConflict, Unsupported
from adaptr.foreign import placing
from adaptr.foreign.draft import Draft, Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import keys

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source

SLOTS = {"v": "shira_weight", "i": "shira_indices"}


def read(source: Source, model: nn.Module | None) -> Draft:
    """Targets and tensors. Sizes of layers come from the base."""
    shared = fields_of.complete("shira", {"r": fields_of.size(source.config, "r")})
    targets: dict[str, Target] = {}
    pieces: dict[str, Piece] = {}
    for path, slots in keys.grouped(source.keys).items():
        found = keys.chosen(path, slots, SLOTS)
        placing.needed(model, path, "a SHiRA file doesn't say how large its layers are")
        (n,), places = source.shapes[found["v"]], source.shapes[found["i"]]
        if places != (2, n):
            raise ConfigConflict(f"`{found['i']}` has shape {places}, wanted (2, {n})")
        place = placing.agreed(model, Target(path, kinds.LINEAR, (0, 0)))
        rows, cols = place.shape
        targets[path] = Target(path, place.kind, place.shape, {**shared, "n": n, "rows": rows, "cols": cols})
        pieces[f"{path}:v"] = Piece(found["v"], (n,))
        pieces[f"{path}:i"] = Piece(found["i"], (n,), then=functools.partial(_flat, path, rows, cols))
    return Draft("shira", shared, targets, pieces)


def _flat(path: str, rows: int, cols: int, places: Tensor) -> Tensor:
    """Flat indices in C order. Raises `ConfigConflict` unless they increase and lie inside."""
    i, j = places.long()
    flat: Tensor = i * cols + j
    inside = bool(((i >= 0) & (i < rows) & (j >= 0) & (j < cols)).all())
    if not inside or bool((flat[1:] <= flat[:-1]).any()):
        raise ConfigConflict(f"`{path}`: the places of `shira_indices` are not increasing inside {rows} by {cols}")
    return flat


def fields(adapter: Adapter) -> dict[str, Any]:
    """The configuration fields that follow from the targets. Raises `Unsupported` for counts that PEFT can't have."""
    ranks = set()
    for path, target in adapter.targets.items():
        r, rest = divmod(target.config["n"], sum(target.shape))
        if rest or target.config["alpha"] != 1.0 or target.kind != kinds.LINEAR:
            raise Unsupported(
                f"`{path}`: PEFT's SHiRA has r (out + in) values of strength 1 on linear layers; this has "
                f"{target.config['n']} of strength {target.config['alpha']} on a {target.kind}"
            )
        ranks.add(r)
    if len(ranks) > 1:
        raise Unsupported(f"PEFT's SHiRA has one rank for all targets; this adapter has {sorted(ranks)}")
    return {"peft_type": "SHIRA", "r": ranks.pop(), "target_modules": placing.ordered(adapter.targets)}


def lost(adapter: Adapter) -> list[str]:
    return []


def tensors(adapter: Adapter) -> dict[str, tuple[str, Tensor]]:
    """{adaptr's key: (PEFT's key, tensor)}."""
    import torch

    made = {}
    for path, target in adapter.targets.items():
        own, cols = adapter.at(path), target.shape[1]
        places = torch.stack([own["i"] // cols, own["i"] % cols]).to(torch.int32)
        made[f"{path}:v"] = keys.written(path, SLOTS["v"]), own["v"]
        made[f"{path}:i"] = keys.written(path, SLOTS["i"]), places
    return made
