"""From an adapter to a file of kohya's and LyCORIS's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import kinds
from adaptr.errors import Unsupported, phrases
from adaptr.files import replacing
from adaptr.foreign import Written, same, saving
from adaptr.foreign.pieces import alphas
from adaptr.foreign.pieces.dense import BIAS, WEIGHT
from adaptr.foreign.pieces.low_rank import DOWN, MAGNITUDE, UP
from adaptr.foreign.pieces.module import ALPHA
from adaptr.format.io import stored_of
from adaptr_formats.kohya import called, hashes

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter, Target
    from adaptr.foreign.same import Same

_KINDS = kinds.LAYERS | kinds.CONVOLUTIONS
#: By method: adaptr's tensor to theirs.
SLOTS: Mapping[str, Mapping[str, str]] = {
    "lora": {"A": DOWN, "B": UP},
    "dora": {"A": DOWN, "B": UP, "m": MAGNITUDE},
    "loha": {**{f"w{i}_{s}": f"hada_w{i}_{s}" for i in "12" for s in "ab"}, "t1": "hada_t1", "t2": "hada_t2",
             "d1": "hada_w1_b", "d2": "hada_w2_b"},
    "lokr": {**{n: f"lokr_{n}" for n in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")}, "d2": "lokr_w2_b"},
    "full": {"D": WEIGHT, "b": BIAS},
    "bitfit": {"b": BIAS},
}  # fmt: skip
#: Methods whose scale is an alpha.
_SCALED = frozenset({"lora", "dora", "loha", "lokr"})


def lost(adapter: Adapter) -> list[str]:
    """What has no place in such a file. Raises `Unsupported` for a method that it has no algorithm for."""
    parts = _parts(adapter)
    dropped = any(target.config.get("dropout") for part in parts for target in part.targets.values())
    whole = [f"the whole parameter `{path}`" for path in adapter.replaced_paths]
    return [*saving.lost(adapter), *whole, *(["dropout rates"] if dropped else [])]


def save(adapter: Adapter, out: Path, force: bool) -> Written:
    """Write one file. Raises `Unsupported` for layers that such a file can't have, or names that stand for others."""
    kept = adapter.foreign.get("kohya", {})
    found: dict[str, tuple[str, Tensor | Same]] = {}
    flats = called.flats(adapter, kept)
    tensors: dict[str, Tensor | Same] = {}
    for part in map(saving.plain, _parts(adapter)):
        for path, target in part.targets.items():
            made = {f"{flats[path]}.{slot}": value for slot, value in _module(part, path, target, kept.get(ALPHA, ""))}
            _require_apart(tensors, made)
            tensors |= made
            found |= {f"{path}:{name}": (f"{flats[path]}.{slot}", made[f"{flats[path]}.{slot}"])
                      for name, slot in SLOTS[part.method].items() if f"{flats[path]}.{slot}" in made}  # fmt: skip
    said = kept.get("metadata", {})
    metadata = {"format": "pt", **said, **called.renamed(flats), saving.ABOUT: saving.about(adapter)}
    with replacing(out, force) as file:
        saving.write(file, tensors, hashes.renewed(tensors, metadata))
    own = {_bare(key): key for key in adapter.tensors}
    return Written(out, {own[key]: name for key, (name, _) in found.items() if key in own}, notes=called.notes(flats))


def _bare(key: str) -> str:
    """A tensor's key without the part of a stack that it is of."""
    path, _, name = key.rpartition(":")
    return f"{path}:{name.rpartition('.')[2]}"


def _require_apart(tensors: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """Raises `Unsupported` where two parts of a stack are at one module."""
    for key in made:
        if key in tensors:
            raise Unsupported(f"two parts of the adapter have `{key}`", hint="compose them first (`adaptr compose`)")


def _parts(adapter: Adapter) -> list[Adapter]:
    """The adapter, or the parts of a stack that only adds. Raises `Unsupported` for other methods and weights."""
    if adapter.method != "stack":
        _require_method(adapter.method)
        return [adapter]
    config = adapter.config
    if config.get("weights") or config.get("off"):
        raise Unsupported("a kohya file has no weights of its parts", hint="compose them first (`adaptr compose`)")
    for part in adapter.parts.values():
        _require_method(part.method, "dora")
    return [adapter.part(name) for name in adapter.parts]


def _require_method(method: str, *no: str) -> None:
    if method not in SLOTS or method in no:
        raise Unsupported(
            f"kohya's files have no `{method}`" + (" in a stack" if no else ""),
            hint=f"they can hold {phrases.listed(SLOTS)}",
        )


def _module(part: Adapter, path: str, target: Target, dtype: str) -> Iterator[tuple[str, Tensor | Same]]:
    """(slot, tensor) of one module."""
    if target.kind not in _KINDS and part.method != "bitfit":
        raise Unsupported(f"`{path}`: kohya's files have nothing for a `{target.kind}`", hint=phrases.OWN)
    if part.method == "lora" and target.config.get("bias"):
        raise Unsupported(f"`{path}`: kohya's files have no bias of a LoRA", hint=phrases.OWN)
    config, factor = {**target.config, "axes": len(target.shape) - 1}, ""
    for name, value in same.at(part, path).items():
        factor = stored_of(value.tensors, value.key)[0]
        yield SLOTS[part.method][name], _laid(part.method, config, name, value)
    if part.method in _SCALED:
        yield ALPHA, alphas.tensor(_alpha(part.method, config), (dtype, factor, "F32"))


def _is_full(method: str, config: Mapping[str, Any]) -> bool:
    return bool(method == "lokr" and config["w1_full"] and config["w2_full"])


def _alpha(method: str, config: Mapping[str, Any]) -> float:
    """Their alpha, over the rank as all scales are there."""
    if _is_full(method, config):  # there it has no meaning, and says what it said
        return float(config["r"])
    alpha = float(config["alpha"])
    return float(alpha * config["r"] ** 0.5) if config.get("rslora") else alpha


def _laid(method: str, config: Mapping[str, Any], name: str, value: Same) -> Tensor | Same:
    """A tensor as it lies there."""
    if name == "m":
        return value.reshape((value.shape[0], *(1 for _ in range(config.get("axes", 1)))))
    if method == "loha" and config["tucker"] and name in ("w1_a", "w2_a"):
        return value.tensor.mT.contiguous()
    if method == "lokr" and config["tucker"] and name == "w2_a":
        return value.tensor.mT.contiguous()
    if name == "w1" and _is_full(method, config) and config["alpha"] != config["r"]:
        scale: float = config["alpha"] / config["r"]
        return value.tensor * scale
    flat = (method == "loha" and name in ("w1_b", "w2_b")) or (method == "lokr" and name == "w2_b")
    return value.reshape(same.flat(value.shape)) if flat else value
