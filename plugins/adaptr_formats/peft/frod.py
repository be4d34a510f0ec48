"""PEFT's FROD: method `frod`. Frames and places stand once for each sort of layers, at the top.

The other side of a frame is in no file: here it is made of the file's frame and the base, which is what was trained.
PEFT makes it of the frame that it finds in the base itself, which may be another on another machine: it is written
where the base gives the very frames of the adapter here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.draft import Draft, Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import Field, Shapes
from adaptr.foreign.weights import Weights
from adaptr_formats.peft._framed import Framed
from adaptr_plugins.transform import _joint
from adaptr_plugins.transform.frod import placed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same

FRAMES, PLACES, SIZES = "frod_V", "frod_s_indices", "frod_s_size"


class FRoD(Framed):
    name = "frod"
    methods = ("frod",)
    slots = {"l": "frod_lambda_l", "s": "frod_lambda_s_values"}
    shared = parted = (FRAMES, PLACES, SIZES)
    table = {
        "rate": Field("sparse_rate", default=0.01, called="rates"),
        "seed": Field("projection_prng_key", int, 0, called="seeds"),
        "ridge": Field("regularization_alpha", default=1e-3, called="ridges"),
        "dropout": Field("frod_dropout", default=0.0, called="dropout rates"),
    }
    frame = ("V",)
    turns = True

    def read(self, source: Source, model: nn.Module | None) -> Draft:
        import torch

        draft, found = super().read(source, model), _once(source)
        sorts = _joint.widths(draft.targets.values())
        for name, width in sorts.items():
            shapes = [tuple(found.get(f"{slot}.{name}", torch.empty(0)).shape) for slot in (FRAMES, PLACES)]
            rows = sum(one.shape[0] for one in _joint.members(draft.targets.values(), name))
            if shapes[0] != (width, width) or len(shapes[1]) != 2 or shapes[1][0] != 2 or rows < width:
                raise ConfigConflict(
                    f"the frame and the places of `{name}`",
                    verb="have",
                    got=f"shapes {shapes[0]} and {shapes[1]}, for {rows} rows",
                    want=f"{(width, width)} and two rows, for at least {width}",
                    hint="merge it with PEFT where it was trained",
                )
        counts = {name: found[f"{PLACES}.{name}"].shape[1] for name in sorts}
        targets = {one.path: one for one in placed(list(draft.targets.values()), counts)}
        V = torch.cat([found[f"{FRAMES}.{name}"].flatten() for name in sorts])
        flat = [found[f"{PLACES}.{name}"].long() for name in sorts]
        i = torch.cat([row * width + col for (row, col), width in zip(flat, sorts.values(), strict=True)])
        made = {":V": V, ":i": i}
        every = {"frames": len(V), "places": len(i)}
        pieces = {**draft.pieces, **{key: Piece("", tuple(one.shape), value=one) for key, one in made.items()}}
        return dataclasses.replace(draft, config={**draft.config, **every}, targets=targets, pieces=pieces)

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        return fields_of.complete("frod", super().values(config, path))

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        found = placing.place(model, path, "a FRoD file doesn't say how large its layers are")
        return Target(path, found.kind, found.shape, values)

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        """Raises `Unsupported` for counts that PEFT would not have."""
        targets = adapter.targets.values()
        if any(t.config["n"] != _joint.count(t.shape[1], t.config["rate"]) for t in targets):
            raise Unsupported("PEFT's FRoD has as many places as `sparse_rate` says", hint=phrases.OWN)
        return {**super().fields(adapter), "save_projection": True}

    def frames(self, adapter: Adapter, base: BaseModel) -> Iterator[tuple[str, Tensor, Tensor]]:
        weights = Weights(base)
        order = placing.in_order(_skeleton(base), adapter.targets, "PEFT finds frames in the order of the base")
        targets = [adapter.targets[path] for path in order]

        def weight(target: Target) -> Tensor:
            stored = weights.weight(target.path).detach().float()
            return stored.t() if target.transposed else stored

        for name, made in _joint.frames(targets, weight, targets[0].config["ridge"]):
            first = next(target for target in targets if _joint.sort(target.path) == name)
            yield f"`{name}`", _cut(adapter.tensors[":V"], first), made

    def tensors(self, adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
        import torch

        made = super().tensors(adapter)
        for target in {_joint.sort(t.path): t for t in adapter.targets.values()}.values():
            name, width, c = _joint.sort(target.path), target.shape[1], target.config
            flat = adapter.tensors[":i"][c["first"] : c["first"] + c["n"]]
            each = {
                FRAMES: _cut(adapter.tensors[":V"], target),
                PLACES: torch.stack([flat // width, flat % width]),
                SIZES: torch.tensor([width, width]),
            }
            made |= {f":{slot}.{name}": (f"base_model.{slot}.{name}", one) for slot, one in each.items()}
        return made


def _once(source: Source) -> dict[str, Tensor]:
    """What stands at the top, by PEFT's name and the sort. Raises `Unsupported` for a file without."""
    found = {key.slot: source.tensors[key.source] for key in source.keys if not key.path and "." in key.slot}
    if not found:
        raise Unsupported(
            "the file has no frames: those that are found again in the base may be others",
            hint="save it with `save_projection` true, where it was trained",
        )
    return found


def _cut(V: Tensor, target: Target) -> Tensor:
    """The frame of a layer."""
    width, at = target.shape[1], target.config["at"]
    return V[at : at + width * width].view(width, width)


def _skeleton(base: BaseModel) -> nn.Module:
    from adaptr.checkpoint.skeleton import skeleton

    return skeleton(base)
