"""PEFT's VERA: method `vera`. The projections stand once in the file; without them only PEFT's generator has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target
from adaptr.errors import ConfigConflict, Unsupported
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import keys, placing
from adaptr.foreign.peft.draft import Draft, Piece

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source

SLOTS = {"d": "vera_lambda_d", "b": "vera_lambda_b"}


def read(source: Source, model: nn.Module | None) -> Draft:
    """Targets and tensors. Widths of layers come from the base, as the file has only their outputs."""
    projections = {key.slot: key.source for key in source.keys if key.slot in keys.SHARED}
    if set(projections) != keys.SHARED:
        raise Unsupported(
            "the file has no `vera_A` and `vera_B`: they were drawn from a generator that changes between versions; "
            "load it in the PEFT that trained it and save it with `save_projection` true"
        )
    (r, in_max), (out_max, other) = (source.shapes[projections[name]] for name in ("vera_A", "vera_B"))
    if r != other or r != fields_of.size(source.config, "r"):
        raise ConfigConflict(f"the projections have ranks {r} and {other}, the configuration `r`={source.config['r']}")
    said = {
        "r": r,
        "in_max": in_max,
        "out_max": out_max,
        "stored": True,
        "dropout": fields_of.number(source.config, "vera_dropout", 0.0),
        "d_initial": fields_of.number(source.config, "d_initial", 0.1),
    }
    shared = fields_of.complete("vera", said)
    targets: dict[str, Target] = {}
    pieces = {":A": Piece(projections["vera_A"], (r, in_max)), ":B": Piece(projections["vera_B"], (out_max, r))}
    for path, slots in keys.grouped(source.keys).items():
        found = keys.chosen(path, slots, SLOTS)
        placing.needed(model, path, "a VeRA file doesn't say how wide its layers are")
        out = source.shapes[found["b"]][0]
        target = placing.agreed(model, Target(path, "linear", (out, 0), shared))
        if target.shape[1] > in_max or out > out_max:
            raise ConfigConflict(
                f"`{path}` is {out} by {target.shape[1]}, more than the projections' {out_max} by {in_max}"
            )
        targets[path] = Target(path, target.kind, target.shape, {**shared, "width": target.shape[1]})
        pieces |= {f"{path}:{name}": Piece(key, source.shapes[key]) for name, key in found.items()}
    return Draft("vera", shared, targets, pieces)


def fields(adapter: Adapter) -> dict[str, Any]:
    """The configuration fields that follow from the targets."""
    shared = {(t.config["r"], t.config["in_max"], t.config["out_max"]) for t in adapter.targets.values()}
    widest = tuple(max(t.shape[axis] for t in adapter.targets.values()) for axis in (1, 0))
    if len(shared) > 1 or next(iter(shared))[1:] != widest:
        raise Unsupported("PEFT's VeRA has one rank, and projections as large as the largest target")
    first = next(iter(adapter.targets.values())).config
    return {
        "peft_type": "VERA",
        "r": first["r"],
        "vera_dropout": first["dropout"],
        "d_initial": first["d_initial"],
        "save_projection": True,
        "fan_in_fan_out": any(t.kind == "linear_t" for t in adapter.targets.values()),
        "target_modules": placing.ordered(adapter.targets),
    }


def lost(adapter: Adapter) -> list[str]:
    return []


def tensors(adapter: Adapter) -> dict[str, tuple[str, Tensor]]:
    """{adaptr's key: (PEFT's key, tensor)}; projections that adaptr draws from a seed are written out."""
    from adaptr import plugins

    method: Any = plugins.method("vera")
    path, target = next(iter(adapter.targets.items()))
    A, B = method.projections(adapter.at(path), method.config(target.config))
    made = {":A": ("base_model.vera_A", A), ":B": ("base_model.vera_B", B)}
    for path in adapter.targets:
        own = adapter.at(path)
        made |= {f"{path}:{name}": (keys.written(path, slot), own[name]) for name, slot in SLOTS.items()}
    return made
