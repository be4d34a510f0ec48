"""PEFT's ADALORA: method `adalora`. A file holds the triplets that are left; `rank_pattern` says which they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr import kinds
from adaptr.adapter import Target
from adaptr.errors import ConfigConflict, Unsupported
from adaptr.foreign import placing, same
from adaptr.foreign.draft import Draft, Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import keys

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same

SLOTS = {"A": "lora_A", "B": "lora_B", "E": "lora_E"}
#: adaptr's name of a field of the schedule to PEFT's.
SCHEDULE = {
    "target_r": "target_r",
    "tinit": "tinit",
    "tfinal": "tfinal",
    "interval": "deltaT",
    "beta1": "beta1",
    "beta2": "beta2",
    "orthogonal": "orth_reg_weight",
}
#: Entries of a `rank_pattern`: a thousand layers that began at rank 4096.
LONGEST = 1 << 22
_WHOLE = {"target_r", "tinit", "tfinal", "interval"}


def read(source: Source, model: nn.Module | None) -> Draft:
    """Targets and tensors; the rank of each is that of its tensors."""
    shared = _values(source.config)
    targets: dict[str, Target] = {}
    pieces: dict[str, Piece] = {}
    for path, slots in keys.grouped(source.keys).items():
        found = keys.chosen(path, slots, SLOTS)
        shapes = {name: source.shapes[key] for name, key in found.items()}
        (r, width), out = shapes["A"], shapes["B"][0]
        if r > shared["begun"] or shapes["B"][1] != r or shapes["E"] != (r, 1):
            raise ConfigConflict(f"`{path}`: triplets of shapes {shapes} are not {shared['begun']} or fewer")
        kind = kinds.layer(fields_of.flag(source.config, "fan_in_fan_out"))
        target = placing.flattened(model, Target(path, kind, (out, width), {**shared, "r": r}))
        targets[path] = target
        shapes["A"] = (r, *target.shape[1:])
        pieces |= {f"{path}:{name}": Piece(key, shapes[name]) for name, key in found.items()}
    return Draft("adalora", shared, targets, pieces)


def _values(config: Mapping[str, Any]) -> dict[str, Any]:
    begun = fields_of.size(config, "init_r", 12)
    alpha = fields_of.number(config, "lora_alpha")
    found = {mine: fields_of.number(config, theirs) for mine, theirs in SCHEDULE.items() if theirs in config}
    said = {
        "r": begun,
        "begun": begun,
        "alpha": alpha if alpha > 0 else float(begun),
        "dropout": fields_of.number(config, "lora_dropout", 0.0),
        **{name: int(value) if name in _WHOLE else value for name, value in found.items()},
        "steps": int(fields_of.number(config, "total_step", 0)) if config.get("total_step") else 0,
    }
    return fields_of.complete("adalora", said)


def fields(adapter: Adapter) -> dict[str, Any]:
    """The configuration fields that follow from the targets; which triplets are left is the first ones."""
    configs = {path: t.config for path, t in adapter.targets.items()}
    begun = {c["begun"] or c["r"] for c in configs.values()}
    alphas = {c["alpha"] for c in configs.values()}
    if len(begun) > 1 or len(alphas) > 1:
        raise Unsupported("PEFT's AdaLoRA has one initial rank and one alpha for all targets; this adapter has several")
    n, shared = begun.pop(), next(iter(configs.values()))
    trimmed = _trimmed({path: c["r"] for path, c in configs.items()}, n)
    return {
        "peft_type": "ADALORA",
        "init_r": n,
        "lora_alpha": alphas.pop(),
        "lora_dropout": shared["dropout"],
        **{theirs: shared[mine] for mine, theirs in SCHEDULE.items()},
        "total_step": max(shared["steps"], 1),
        "rank_pattern": trimmed or None,
        "fan_in_fan_out": any(t.kind == kinds.LINEAR_T for t in adapter.targets.values()),
        "target_modules": placing.ordered(adapter.targets),
    }


def _trimmed(ranks: Mapping[str, int], begun: int) -> dict[str, list[bool]]:
    """PEFT's `rank_pattern`: for each layer which of its first triplets are left, {} where all are."""
    if all(r == begun for r in ranks.values()):
        return {}
    if begun * len(ranks) > LONGEST:  # a number in a file is no reason to fill the memory
        raise Unsupported(
            f"an initial rank of {begun} at {len(ranks)} layers makes a `rank_pattern` of more than {LONGEST} entries"
        )
    return {f"{path}.lora_E": [i < r for i in range(begun)] for path, r in ranks.items()}


def lost(adapter: Adapter) -> list[str]:
    return []


def tensors(adapter: Adapter) -> dict[str, tuple[str, Same]]:
    """{adaptr's key: (PEFT's key, tensor)}."""
    return {
        f"{path}:{name}": (keys.written(path, SLOTS[name], plain=True), tensor.reshape(same.flat(tensor.shape)))
        for path in adapter.targets
        for name, tensor in same.at(adapter, path).items()
    }
