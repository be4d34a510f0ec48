"""PEFT's TINYLORA: method `tinylora`. The vectors of groups of layers stand at the top, each under its number.

Which group a layer is of follows from its place among all, in the order of the base; so do random matrices that are not
in the file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.draft import Draft, Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import Field, PeftType, Shapes
from adaptr_plugins.delta.tinylora import group, groups

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same

VECTORS, RANDOM = "tinylora_v", "tinylora_P"


class TinyLoRA(PeftType):
    name = "tinylora"
    methods = ("tinylora",)
    slots = {"A": "tinylora_A", "B": "tinylora_B", "P": RANDOM}
    shared = parted = (VECTORS,)
    table = {
        "u": Field("u", int, 64, called="lengths"),
        "tie": Field("weight_tying", default=0.0, called="ties"),
        "dropout": Field("tinylora_dropout", default=0.0, called="dropout rates"),
    }
    turns = open = True

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        r = fields_of.size(config, "r", 2)
        return fields_of.complete("tinylora", {**super().values(config, path), "r": r})

    def there(self, values: Mapping[str, Any], slots: Mapping[str, str]) -> Mapping[str, str]:
        return {name: slot for name, slot in self.slots.items() if slot != RANDOM or slot in slots}

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        A, B = (placing.axes(path, self.slots[name], shapes[name], 2) for name in "AB")
        found = placing.agreed(model, Target(path, kinds.LINEAR, (B[0], A[1]), {**values, "r": A[0]}))
        if not found.is_linear:
            raise Unsupported(f"`{path}`: a TinyLoRA of a {found.kind} can't be read", hint=phrases.OWN)
        return found

    def read(self, source: Source, model: nn.Module | None) -> Draft:
        draft = super().read(source, model)
        v, L, tie = _vectors(source), len(draft.targets), draft.config["tie"]
        if not 0 <= tie <= 1 or len(v) != groups(L, tie) or v.shape[1:] != (draft.config["u"],):
            raise ConfigConflict(
                f"`{VECTORS}`", verb="are", got=f"{len(v)} of {tuple(v.shape[1:])}",
                want=f"as many as `weight_tying` makes groups of {L} layers, each `u` long", hint=phrases.AGAIN,
            )  # fmt: skip
        order = placing.in_order(model, draft.targets, "a TinyLoRA file doesn't say which of its layers come first")
        own = {path: {"index": n, "group": group(n, L, len(v)), "groups": len(v)} for n, path in enumerate(order)}
        targets = {p: dataclasses.replace(t, config={**t.config, **own[p]}) for p, t in draft.targets.items()}
        drawn = {f"{p}:P": _drawn(source, t) for p, t in targets.items() if f"{p}:P" not in draft.pieces}
        made = {":v": v, **drawn}
        pieces = {**draft.pieces, **{key: Piece("", tuple(one.shape), value=one) for key, one in made.items()}}
        rewritten = {"save_projection": True} if drawn else {}
        config = {**draft.config, "groups": len(v)}
        return dataclasses.replace(draft, config=config, targets=targets, pieces=pieces, rewritten=rewritten)

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        """Raises `Unsupported` for groups and ranks that PEFT would not have."""
        targets, L = adapter.targets.values(), len(adapter.targets)
        r, places = max(t.config["r"] for t in targets), sorted(t.config["index"] for t in targets)
        if places != [*range(L)] or any(not _as_peft(t, L) or t.config["r"] != min(r, *t.shape) for t in targets):
            raise Unsupported("PEFT's TinyLoRA has one rank, and groups of all layers in a row", hint=phrases.OWN)
        return {**super().fields(adapter), "r": r, "save_projection": True}

    def tensors(self, adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
        each = enumerate(adapter.tensors[":v"])
        return super().tensors(adapter) | {f":v@{n}": (f"base_model.{VECTORS}.{n}", v) for n, v in each}


def _as_peft(target: Target, layers: int) -> bool:
    """Whether a layer is of the group that PEFT gives it."""
    c = target.config
    return (c["groups"], c["group"]) == (groups(layers, c["tie"]), group(c["index"], layers, c["groups"]))


def _vectors(source: Source) -> Tensor:
    """v (groups, u). Raises `ConfigConflict` for numbers that are missing, or vectors of several lengths."""
    import torch

    found = {key.slot.partition(".")[2]: key.source for key in source.keys if key.slot.startswith(f"{VECTORS}.")}
    wanted = [str(n) for n in range(len(found))]
    lengths = {source.shapes[key] for key in found.values()}
    if not found or set(found) != set(wanted) or len(lengths) > 1:
        raise ConfigConflict(f"`{VECTORS}` are not numbered from 0 on, or of several lengths", hint=phrases.AGAIN)
    return torch.stack([source.tensors[found[n]] for n in wanted])


def _drawn(source: Source, target: Target) -> Tensor:
    """The random matrices (u, r, r) of a layer, as PEFT draws them."""
    import torch

    r, seed = target.config["r"], int(fields_of.number(source.config, "projection_seed", 42))
    if abs(seed) >= 2**62:
        raise fields_of.misread("projection_seed", seed, "a whole number of 62 bits")
    generator = torch.Generator().manual_seed(seed + target.config["index"])
    return torch.normal(0.0, 1.0 / r**0.5, (target.config["u"], r, r), generator=generator)
