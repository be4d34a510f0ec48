"""PEFT's LOHA: method `loha`. Convolutions are flattened, or have cores t (r, r, *k) between transposed factors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr import kinds
from adaptr.adapter import Target
from adaptr.errors import ConfigConflict
from adaptr.foreign import placing, same
from adaptr.foreign.draft import Draft, Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import keys

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


def read(source: Source, model: nn.Module | None) -> Draft:
    """Targets and tensors; kernels of flattened convolutions come from the base."""
    targets: dict[str, Target] = {}
    pieces: dict[str, Piece] = {}
    shared = {**fields_of.ranked(source.config, "", "r", "alpha"), "tucker": False}
    for path, slots in keys.grouped(source.keys).items():
        tucker = "hada_t1" in slots
        found = keys.chosen(path, slots, TUCKER if tucker else PLAIN)
        values = {**fields_of.ranked(source.config, path, "r", "alpha"), "tucker": tucker}
        shapes = {name: source.shapes[key] for name, key in found.items()}
        target = _cored(model, path, shapes, values) if tucker else _flat(model, path, shapes, values)
        targets[path] = target
        pieces |= {f"{path}:{name}": _piece(target, name, key, shapes[name]) for name, key in found.items()}
    return Draft("loha", shared, targets, pieces)


def _flat(model: nn.Module | None, path: str, shapes: Mapping[str, Any], values: dict[str, Any]) -> Target:
    a, b = shapes["w1_a"], shapes["w1_b"]
    if len(a) != 2 or len(b) != 2 or a[1] != values["r"]:
        raise ConfigConflict(f"`{path}`: factors of shapes {a} and {b} are not those of rank {values['r']}")
    return placing.flattened(model, Target(path, kinds.LINEAR, (a[0], b[1]), values))


def _cored(model: nn.Module | None, path: str, shapes: Mapping[str, Any], values: dict[str, Any]) -> Target:
    core = shapes["t1"]
    if len(core) != 4 or core[0] != values["r"]:
        raise ConfigConflict(f"`{path}`: a core of shape {core} is not one of rank {values['r']}")
    shape = (shapes["w1_a"][1], shapes["d1"][1], *core[2:])
    if core[3] != 1:
        return placing.agreed(model, Target(path, kinds.convolution(2), shape, values))
    # a kernel of one axis is written with a second one of size 1
    known = placing.needed(model, path, "its core doesn't say whether the convolution has one axis or two")
    kernel = placing.kernel(known, Target(path, kinds.convolution(1), shape[:3]))
    return placing.agreed(model, Target(path, kinds.convolution(len(kernel)), (*shape[:2], *kernel), values))


def _piece(target: Target, name: str, key: str, shape: tuple[int, ...]) -> Piece:
    if target.config["tucker"] and name in {"w1_a", "w2_a"}:
        return Piece(key, (shape[1], shape[0]), order=(1, 0))
    if name in {"t1", "t2"}:
        return Piece(key, (*shape[:2], *target.shape[2:]))
    if name in {"w1_b", "w2_b"}:
        return Piece(key, (shape[0], *target.shape[1:]))
    return Piece(key, shape)


def fields(adapter: Adapter) -> dict[str, Any]:
    """The configuration fields that follow from the targets."""
    configs = {path: t.config for path, t in adapter.targets.items()}
    return {
        "peft_type": "LOHA",
        **fields_of.ranks(configs, "alpha"),
        "use_effective_conv2d": any(c["tucker"] for c in configs.values()),
        "target_modules": placing.ordered(adapter.targets),
    }


def lost(adapter: Adapter) -> list[str]:
    return []


def tensors(adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
    """{adaptr's key: (PEFT's key, tensor)}."""
    made: dict[str, tuple[str, Tensor | Same]] = {}
    for path, target in adapter.targets.items():
        tucker = target.config["tucker"]
        for name, tensor in same.at(adapter, path).items():
            slot = (TUCKER if tucker else PLAIN)[name]
            made[f"{path}:{name}"] = keys.written(path, slot), _written(name, tensor, tucker)
    return made


def _written(name: str, found: Same, tucker: bool) -> Tensor | Same:
    if tucker and name in {"w1_a", "w2_a"}:
        return found.tensor.mT.contiguous()
    if name in {"t1", "t2"}:
        return found if found.ndim == 4 else found.reshape((*found.shape, 1))
    return found.reshape(same.flat(found.shape))
