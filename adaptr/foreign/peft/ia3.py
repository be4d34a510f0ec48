"""PEFT's IA3: method `ia3`. (out, 1) scales the output; (1, in) the input of a feed-forward's layer.

A file has one side of each layer only; the other size is 0 (not known) unless the base is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr import kinds
from adaptr.adapter import Target
from adaptr.errors import ConfigConflict, TensorUnknown
from adaptr.foreign import placing, same
from adaptr.foreign.draft import Draft, Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import keys

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same


def read(source: Source, model: nn.Module | None) -> Draft:
    """Targets and tensors; sides come from `feedforward_modules` and must agree with the shapes."""
    draft = Draft("ia3", {"side": "out"}, {}, {})
    targets: dict[str, Target] = {}
    for path, slots in keys.grouped(source.keys).items():
        extra = next((slot for slot in slots if slot != "ia3_l"), None)
        if extra:
            raise TensorUnknown(f"`{slots[extra]}`: IA3 has no `{extra}`")
        shape = source.shapes[slots["ia3_l"]]
        side = _side(source, path, shape)
        n = max(shape)
        known = (n, 0) if side == "out" else (0, n)
        conv = len(shape) > 2
        kind = kinds.convolution(len(shape) - 2) if conv else kinds.layer(_flat(source))
        place = Target(path, kind, (*known, *(0 for _ in shape[2:])), {"side": side})
        targets[path] = placing.agreed(model, place)
        draft.pieces[f"{path}:l"] = Piece(slots["ia3_l"], (n,))
    return Draft("ia3", draft.config, targets, draft.pieces)


def _flat(source: Source) -> bool:
    return fields_of.flag(source.config, "fan_in_fan_out")


def _side(source: Source, path: str, shape: tuple[int, ...]) -> str:
    spec = source.config.get("feedforward_modules")
    if not isinstance(spec, str):
        spec = fields_of.words(source.config, "feedforward_modules")
    inward = fields_of.named(spec, path)
    # a convolution has (1, n, 1, 1) on both sides, so there only the configuration says which
    axis = 1 if inward or len(shape) > 2 else 0
    if len(shape) not in (2, 3, 4, 5) or any(size != 1 for i, size in enumerate(shape) if i != axis):
        raise ConfigConflict(
            f"`{path}`: `feedforward_modules` says that its {'input' if inward else 'output'} is scaled, "
            f"the tensor has shape {shape}"
        )
    return "in" if inward else "out"


def fields(adapter: Adapter) -> dict[str, Any]:
    """The configuration fields that follow from the targets."""
    inward = [path for path, target in adapter.targets.items() if target.config["side"] == "in"]
    return {
        "peft_type": "IA3",
        "target_modules": placing.ordered(adapter.targets),
        "feedforward_modules": placing.ordered(inward),
        "fan_in_fan_out": any(t.kind == kinds.LINEAR_T for t in adapter.targets.values()),
    }


def lost(adapter: Adapter) -> list[str]:
    return []


def tensors(adapter: Adapter) -> dict[str, tuple[str, Same]]:
    """{adaptr's key: (PEFT's key, tensor)}."""
    made = {}
    for path, target in adapter.targets.items():
        kernel = target.shape[2:]
        column = target.config["side"] == "out" and not kernel
        found = same.at(adapter, path)["l"]
        shape = (*found.shape, 1) if column else (1, *found.shape, *(1 for _ in kernel))
        made[f"{path}:l"] = keys.written(path, "ia3_l"), found.reshape(shape)
    return made
