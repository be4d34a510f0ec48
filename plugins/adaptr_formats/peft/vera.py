"""PEFT's VERA: method `vera`. The projections stand once in the file, or are drawn again from its seed.

PEFT before 0.21 always draws them again, so that it does something else with those of another tool, without a word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, NoAdapterTensors, Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.draft import Draft, Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import keys
from adaptr.foreign.peft.types import Field, PeftType

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same

#: The projections, once for all modules.
SHARED = ("vera_A", "vera_B")
SLOTS = {"d": "vera_lambda_d", "b": "vera_lambda_b"}


class Vera(PeftType):
    name = "vera"
    methods = ("vera",)
    slots = SLOTS
    shared = SHARED
    table = {
        "dropout": Field("vera_dropout", default=0.0, called="dropout rates"),
        "d_initial": Field("d_initial", default=0.1),
    }
    turns = open = True

    def read(self, source: Source, model: nn.Module | None) -> Draft:
        """Targets and tensors. Widths of layers come from the base, as the file has only their outputs."""
        A, B = _projections(source, model)
        (r, in_max), (out_max, other) = A.shape, B.shape
        if r != other or r != fields_of.size(source.config, "r"):
            raise ConfigConflict(
                "the projections",
                verb="have",
                got=f"ranks {r} and {other}",
                want=f"{source.config['r']}, the configuration's `r`",
                hint=phrases.AGAIN,
            )
        values = {
            "r": r,
            "in_max": in_max,
            "out_max": out_max,
            "stored": True,
            **self.values(source.config, ""),
        }
        shared = fields_of.complete("vera", values)
        targets: dict[str, Target] = {}
        pieces = {":A": A, ":B": B}
        for path, slots in keys.grouped(source.keys).items():
            found = keys.chosen(path, slots, SLOTS)
            target = _place(source, model, path, found["b"])
            out = target.shape[0]
            if target.shape[1] > in_max or out > out_max:
                raise ConfigConflict(
                    f"`{path}`",
                    got=f"{out} by {target.shape[1]}",
                    want=f"at most {out_max} by {in_max}, the projections' size",
                    hint=phrases.AGAIN,
                )
            targets[path] = Target(path, target.kind, target.shape, {**shared, "width": target.shape[1]})
            pieces |= {f"{path}:{name}": Piece(key, source.shapes[key]) for name, key in found.items()}
        return Draft("vera", shared, targets, pieces, {"save_projection": True} if A.value is not None else {})

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        shared = {(t.config["r"], t.config["in_max"], t.config["out_max"]) for t in adapter.targets.values()}
        widest = tuple(max(t.shape[axis] for t in adapter.targets.values()) for axis in (1, 0))
        if len(shared) > 1 or next(iter(shared))[1:] != widest:
            raise Unsupported(
                "PEFT's VeRA has one rank, and projections as large as the largest target", hint=phrases.OWN
            )
        return {**super().fields(adapter), "r": shared.pop()[0], "save_projection": True}

    def tensors(self, adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
        """Projections that adaptr draws from a seed are written out."""
        from adaptr import plugins

        method: Any = plugins.method("vera")
        path, target = next(iter(adapter.targets.items()))
        A, B = method.projections(adapter.at(path), method.config(target.config))
        made: dict[str, tuple[str, Tensor | Same]] = {":A": ("base_model.vera_A", A), ":B": ("base_model.vera_B", B)}
        for path in adapter.targets:
            own = adapter.at(path)
            made |= {f"{path}:{name}": (self.key(path, slot), own[name]) for name, slot in SLOTS.items()}
        return made


def _projections(source: Source, model: nn.Module | None) -> tuple[Piece, Piece]:
    """A (r, in_max) and B (out_max, r): those of the file, or drawn again as PEFT draws them."""
    stored = {key.slot: key.source for key in source.keys if key.slot in SHARED}
    if set(stored) == set(SHARED):
        A, B = (Piece(stored[name], source.shapes[stored[name]]) for name in SHARED)
        if not len(A.shape) == len(B.shape) == 2:
            raise ConfigConflict(
                "the projections",
                verb="have",
                got=f"shapes {A.shape} and {B.shape}",
                want="two axes each",
                hint=phrases.AGAIN,
            )
        return A, B
    if stored:
        raise ConfigConflict(
            f"the file has `{next(iter(stored))}` alone, and the projections are a pair", hint=phrases.AGAIN
        )
    layers = {path: keys.chosen(path, slots, SLOTS) for path, slots in keys.grouped(source.keys).items()}
    if not layers:
        raise NoAdapterTensors(f"`{source.path}` holds no tensor of a VeRA adapter", hint=phrases.AGAIN)
    r = fields_of.size(source.config, "r")
    odd = next((path for path, found in layers.items() if source.shapes[found["d"]] != (r,)), None)
    if odd is not None:
        raise ConfigConflict(f"`{odd}`: `{SLOTS['d']}` is not of the configuration's rank {r}", hint=phrases.AGAIN)
    places = [_place(source, model, path, found["b"]).shape for path, found in layers.items()]
    out_max, in_max = (max(shape[axis] for shape in places) for axis in (0, 1))
    return _drawn(source.config, out_max, in_max)


def _drawn(config: Mapping[str, Any], out_max: int, in_max: int) -> tuple[Piece, Piece]:
    """PEFT's own: one generator on the CPU, A before B, each uniform in +-√2 √(3 / fan in)."""
    import torch

    r = fields_of.size(config, "r")
    seed = int(fields_of.number(config, "projection_prng_key", 0))
    generator = torch.Generator().manual_seed(seed % 2**63)

    def uniform(rows: int, cols: int) -> Piece:
        bound = math.sqrt(3.0) * (math.sqrt(2) / math.sqrt(cols))
        return Piece("", (rows, cols), value=torch.empty(rows, cols).uniform_(-bound, bound, generator=generator))

    return uniform(r, in_max), uniform(out_max, r)


def _place(source: Source, model: nn.Module | None, path: str, key: str) -> Target:
    """The layer at `path` as the base has it: the file has its outputs alone, in `key`."""
    placing.needed(model, path, "a VeRA file doesn't say how wide its layers are")
    return placing.agreed(model, Target(path, kinds.LINEAR, (source.shapes[key][0], 0)))
