"""How the tensors of a module lie in a file of kohya's and LyCORIS's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adaptr import plugins
from adaptr.adapter import kinds
from adaptr.errors import Unsupported, phrases
from adaptr.foreign import same
from adaptr.foreign.pieces import alphas, mixing, vectors
from adaptr.foreign.pieces.dense import BIAS, WEIGHT
from adaptr.foreign.pieces.low_rank import DOWN, MAGNITUDE, MID, UP
from adaptr.foreign.pieces.module import ALPHA
from adaptr.foreign.pieces.rotations import BLOCKS, RESCALE
from adaptr.format.io import stored_of
from adaptr_formats.kohya import turning

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter, Target
    from adaptr.foreign.same import Same

_KINDS = kinds.LAYERS | kinds.CONVOLUTIONS
#: By method: adaptr's tensor to theirs.
SLOTS: Mapping[str, Mapping[str, str]] = {
    "lora": {"A": DOWN, "B": UP, "t": MID, "d": DOWN},
    "dora": {"A": DOWN, "B": UP, "m": MAGNITUDE},
    "loha": {**{f"w{i}_{s}": f"hada_w{i}_{s}" for i in "12" for s in "ab"}, "t1": "hada_t1", "t2": "hada_t2",
             "d1": "hada_w1_b", "d2": "hada_w2_b"},
    "lokr": {**{n: f"lokr_{n}" for n in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")}, "d2": "lokr_w2_b"},
    "oft": {"Q": BLOCKS, "s": RESCALE},
    "boft": {"Q": BLOCKS, "s": RESCALE},
    "ia3": {"l": vectors.WEIGHT},
    "glora": mixing.FACTORS,
    "full": {"D": WEIGHT, "b": BIAS},
    "bitfit": {"b": BIAS},
}  # fmt: skip
#: Methods whose scale is an alpha.
_SCALED = frozenset({"lora", "dora", "loha", "lokr", "glora"})
_TURNING = frozenset({"oft", "boft"})


def module(part: Adapter, path: str, target: Target, dtype: str) -> Iterator[tuple[str, Tensor | Same]]:
    """(slot, tensor) of one module. `dtype`: which its numbers should have. Raises `Unsupported`."""
    config: Mapping[str, Any] = vars(plugins.method(part.method).config(target.config))
    _require_held(part.method, path, target, config)
    config, factor = {**config, "axes": len(target.shape) - 1}, ""
    for name, value in same.at(part, path).items():
        factor = stored_of(value.tensors, value.key)[0]
        made = _laid(part.method, config, name, value)
        if made is not None:
            yield SLOTS[part.method][name], made
    if part.method in _SCALED:
        yield ALPHA, alphas.tensor(_alpha(part.method, config), (dtype, factor, "F32"))
    elif part.method in _TURNING:  # no constraint
        yield ALPHA, alphas.tensor(0.0, (dtype, factor, "F32"))
    elif part.method == "ia3":
        yield vectors.SIDE, alphas.tensor(float(config["side"] == "in"), (factor, "F32"))


def _require_held(method: str, path: str, target: Target, config: Mapping[str, Any]) -> None:
    if target.kind not in _KINDS and method != "bitfit":
        raise Unsupported(f"`{path}`: kohya's files have nothing for a `{target.kind}`", hint=phrases.OWN)
    if method == "lora" and config.get("bias"):
        raise Unsupported(f"`{path}`: kohya's files have no bias of a LoRA", hint=phrases.OWN)
    if method == "ia3" and config["side"] == "out" and config["bias"]:
        raise Unsupported(
            f"`{path}`: LyCORIS scales a weight and not the bias beside it",
            hint="where the layer has none it is the same: give the base (`--base`)",
        )
    plain = {"side": "in", "weights": "lora", "inputs": "none", "biases": "none"}
    if method == "glora" and any(config[name] != value for name, value in plain.items()):
        raise Unsupported(
            f"`{path}`: LyCORIS's GLoRA is W + W A + B, of factors alone and without biases",
            hint="train it with `side` in, `weights` lora, and neither `inputs` nor `biases`",
        )
    if method in _TURNING:
        turning.require_held(method, path, config)


def _is_full(method: str, config: Mapping[str, Any]) -> bool:
    return bool(method == "lokr" and config["w1_full"] and config["w2_full"])


def _alpha(method: str, config: Mapping[str, Any]) -> float:
    """Their alpha, over the rank as all scales are there."""
    if _is_full(method, config):  # there it has no meaning, and says what it said
        return float(config["r"])
    if method == "glora" and not config["alpha"]:
        return float(config["r"])
    alpha = float(config["alpha"])
    return float(alpha * config["r"] ** 0.5) if config.get("rslora") else alpha


def _laid(method: str, config: Mapping[str, Any], name: str, value: Same) -> Tensor | Same | None:
    """A tensor as it lies there, None for one that is not needed."""
    ones = tuple(1 for _ in range(config.get("axes", 1)))
    if method in _TURNING:
        return turning.laid(method, config, name, value, ones)
    if method == "ia3":
        less = (value.tensor.double() - 1).to(value.tensor.dtype)
        return less.view(1, -1, *ones[1:]) if len(ones) > 1 else less
    if name == "m":
        return value.reshape((value.shape[0], *ones))
    if method == "loha" and config["tucker"] and name in ("w1_a", "w2_a"):
        return value.tensor.mT.contiguous()
    if method == "lokr" and config["tucker"] and name == "w2_a":
        return value.tensor.mT.contiguous()
    if name == "w1" and _is_full(method, config) and config["alpha"] != config["r"]:
        scale: float = config["alpha"] / config["r"]
        return value.tensor * scale
    if (method == "glora" and name != "Bu") or (method == "lora" and name == "d"):
        return value.reshape((*value.shape, *ones[1:]))
    flat = (method == "loha" and name in ("w1_b", "w2_b")) or (method == "lokr" and name == "w2_b")
    return value.reshape(same.flat(value.shape)) if flat else value
