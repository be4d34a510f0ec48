"""PEFT's LOKR: method `lokr`. Sizes come from the tensors, never from `decompose_factor`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing, same
from adaptr.foreign.draft import Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import Field, PeftType, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same


class LoKr(PeftType):
    name = "lokr"
    methods = ("lokr",)
    others = (
        "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
    )  # fmt: skip
    table = {"factor": Field("decompose_factor", int, -1), "decompose_both": Field("decompose_both", bool)}
    alpha = "alpha"
    open = True

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        return fields_of.complete("lokr", super().values(config, path))

    def form(self, slots: Mapping[str, str]) -> dict[str, Any]:
        return {"w1_full": "lokr_w1" in slots, "w2_full": "lokr_w2" in slots, "tucker": "lokr_t2" in slots}

    def wanted(self, values: Mapping[str, Any]) -> Mapping[str, str]:
        return _slots(values)

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        """Kernels of flattened convolutions come from the base."""
        return _target(model, path, shapes, values)

    def piece(self, target: Target, name: str, key: str, shape: tuple[int, ...]) -> Piece:
        if name == "w2_a" and target.config["tucker"]:
            return Piece(key, (shape[1], shape[0]), order=(1, 0))
        if name == "w2_b":
            return Piece(key, (shape[0], target.config["d"], *target.shape[2:]))
        return Piece(key, shape)

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        """Raises `Unsupported` for sizes that PEFT would not choose."""
        for path, target in adapter.targets.items():
            _as_peft_chooses(path, target)
        configs = [target.config for target in adapter.targets.values()]
        return {
            **super().fields(adapter),
            "decompose_both": any(c["decompose_both"] for c in configs),
            "use_effective_conv2d": any(c["tucker"] for c in configs),
        }

    def laid(self, target: Target, name: str, found: Same) -> Tensor | Same:
        if name == "w2_a" and target.config["tucker"]:
            return found.tensor.mT.contiguous()
        return found.reshape(same.flat(found.shape)) if name == "w2_b" else found


def _slots(full: Mapping[str, Any]) -> dict[str, str]:
    """{adaptr's name: PEFT's slot} for these forms of the factors."""
    first = ["w1"] if full["w1_full"] else ["w1_a", "w1_b"]
    second = ["w2"] if full["w2_full"] else ["w2_a", "w2_b"]
    found = {name: f"lokr_{name}" for name in first + second}
    if full["tucker"]:
        found = {"d2" if name == "w2_b" else name: slot for name, slot in found.items()} | {"t2": "lokr_t2"}
    return found


def _target(model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]) -> Target:
    tucker = values["tucker"]
    a, c = shapes["w1"] if values["w1_full"] else (shapes["w1_a"][0], shapes["w1_b"][1])
    if values["w2_full"]:
        b, d, *kernel = shapes["w2"]
        if len(kernel) == 1:
            raise Unsupported(
                f"`{path}`: PEFT multiplies a full `lokr_w2` of a 1-d convolution along the wrong axes",
                hint="leave that layer out of the targets",
            )
    elif tucker:
        b, d, kernel = shapes["w2_a"][1], shapes["d2"][1], list(shapes["t2"][2:])
        if kernel[1:] == [1]:
            raise Unsupported(
                f"`{path}`: a core of a kernel with one axis can't be told from one with two",
                hint="give the base (`--base`), or leave that layer out of the targets",
            )
    else:
        b, d, kernel = shapes["w2_a"][0], shapes["w2_b"][1], []
    values = {**values, "a": a, "b": b, "c": c, "d": d}
    if kernel:
        return placing.agreed(model, Target(path, kinds.convolution(len(kernel)), (a * b, c * d, *kernel), values))
    target = placing.flattened(model, Target(path, kinds.LINEAR, (a * b, c * d), values))
    inner = math.prod(target.shape[2:])
    if d % inner:
        raise ConfigConflict(
            f"`{path}`: `lokr_w2_b`",
            verb="has",
            got=f"{d} columns",
            want=f"a multiple of the kernel's {inner}",
            hint=phrases.AGAIN,
        )
    return Target(path, target.kind, target.shape, {**values, "d": d // inner})


def _as_peft_chooses(path: str, target: Target) -> None:
    from adaptr import plugins

    c = target.config
    want = plugins.method("lokr").at_target(None, target, dict(c))  # type: ignore[arg-type]
    for name in ("a", "b", "c", "d", "w1_full", "w2_full"):
        if want[name] != c[name]:
            raise Unsupported(
                f"`{path}`: PEFT derives the sizes of the factors from `decompose_factor` and would take "
                f"{name}={want[name]} where this adapter has {c[name]}",
                hint=phrases.OWN,
            )
