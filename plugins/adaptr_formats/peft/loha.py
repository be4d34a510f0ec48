"""PEFT's LOHA: method `loha`. Convolutions are flattened, or have cores t (r, r, *k) between transposed factors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, phrases
from adaptr.foreign import placing, same
from adaptr.foreign.draft import Piece
from adaptr.foreign.peft.types import PeftType, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same

PLAIN = {name: f"hada_{name}" for name in ("w1_a", "w1_b", "w2_a", "w2_b")}
TUCKER = {
    "w1_a": "hada_w1_a",
    "d1": "hada_w1_b",
    "w2_a": "hada_w2_a",
    "d2": "hada_w2_b",
    "t1": "hada_t1",
    "t2": "hada_t2",
}


class LoHa(PeftType):
    name = "loha"
    methods = ("loha",)
    slots = PLAIN
    others = tuple(TUCKER.values())
    alpha = "alpha"
    open = True

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        return {**super().values(config, path), "tucker": False}

    def form(self, slots: Mapping[str, str]) -> dict[str, Any]:
        return {"tucker": "hada_t1" in slots}

    def wanted(self, values: Mapping[str, Any]) -> Mapping[str, str]:
        return TUCKER if values["tucker"] else PLAIN

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        """Kernels of flattened convolutions come from the base."""
        return (_cored if values["tucker"] else _flat)(model, path, shapes, values)

    def piece(self, target: Target, name: str, key: str, shape: tuple[int, ...]) -> Piece:
        if target.config["tucker"] and name in {"w1_a", "w2_a"}:
            return Piece(key, (shape[1], shape[0]), order=(1, 0))
        if name in {"t1", "t2"}:
            return Piece(key, (*shape[:2], *target.shape[2:]))
        if name in {"w1_b", "w2_b"}:
            return Piece(key, (shape[0], *target.shape[1:]))
        return Piece(key, shape)

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        cores = any(target.config["tucker"] for target in adapter.targets.values())
        return {**super().fields(adapter), "use_effective_conv2d": cores}

    def laid(self, target: Target, name: str, found: Same) -> Tensor | Same:
        if target.config["tucker"] and name in {"w1_a", "w2_a"}:
            return found.tensor.mT.contiguous()
        if name in {"t1", "t2"}:
            return found if found.ndim == 4 else found.reshape((*found.shape, 1))
        return found.reshape(same.flat(found.shape))


def _flat(model: nn.Module | None, path: str, shapes: Mapping[str, Any], values: dict[str, Any]) -> Target:
    a, b = shapes["w1_a"], shapes["w1_b"]
    if len(a) != 2 or len(b) != 2 or a[1] != values["r"]:
        raise ConfigConflict(
            f"`{path}`: factors",
            verb="have",
            got=f"shapes {a} and {b}",
            want=f"those of rank {values['r']}",
            hint=phrases.AGAIN,
        )
    return placing.flattened(model, Target(path, kinds.LINEAR, (a[0], b[1]), values))


def _cored(model: nn.Module | None, path: str, shapes: Mapping[str, Any], values: dict[str, Any]) -> Target:
    core = shapes["t1"]
    if len(core) != 4 or core[0] != values["r"]:
        raise ConfigConflict(
            f"`{path}`: a core", verb="has", got=f"shape {core}", want=f"one of rank {values['r']}", hint=phrases.AGAIN
        )
    shape = (shapes["w1_a"][1], shapes["d1"][1], *core[2:])
    if core[3] != 1:
        return placing.agreed(model, Target(path, kinds.convolution(2), shape, values))
    # a kernel of one axis is written with a second one of size 1
    known = placing.needed(model, path, "its core doesn't say whether the convolution has one axis or two")
    kernel = placing.kernel(known, Target(path, kinds.convolution(1), shape[:3]))
    return placing.agreed(model, Target(path, kinds.convolution(len(kernel)), (*shape[:2], *kernel), values))
