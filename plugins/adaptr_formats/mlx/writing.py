"""From an adapter to a folder that MLX-LM loads: one rank and one scale for all modules."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import kinds
from adaptr.errors import Unsupported, phrases
from adaptr.files import replacing_folder
from adaptr.foreign import Written, placing, same, saving
from adaptr.foreign.pieces import uniform
from adaptr.foreign.seen import CONFIG
from adaptr_formats.mlx.config import DORA, FULL, LAYER, LORA, MODEL, PARAMETERS
from adaptr_formats.mlx.reading import MAGNITUDE, A, B

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter, Target
    from adaptr.foreign.same import Same

WEIGHTS = "adapters.safetensors"
SLOTS = {"A": A, "B": B, "m": MAGNITUDE}
_KINDS = kinds.LAYERS | {kinds.TABLE}


def lost(adapter: Adapter) -> list[str]:
    """What has no place in such a folder. Raises `Unsupported` for a method that MLX-LM has none for."""
    _require_method(adapter)
    rates = {target.config["dropout"] for target in adapter.targets.values()}
    wide = any(str(value.dtype) == "torch.float64" for value in adapter.tensors.values())
    return [
        *saving.lost(adapter),
        *(f"the whole parameter `{path}`" for path in adapter.replaced_paths),
        *(["dropout rates that differ"] if len(rates) > 1 else []),
        *(["the precision of fp64, which becomes fp32"] if wide else []),
    ]


def save(adapter: Adapter, out: Path, force: bool) -> Written:
    """Write `adapter_config.json` and `adapters.safetensors` into the folder `out`.

    Smaller ranks are filled up with zeros; scales other than the most frequent go into `lora_b`, in fp32 at least.
    Raises `Unsupported` for what MLX-LM has no such layer for.
    """
    _require_method(adapter)
    plain = saving.plain(adapter)
    for path, target in plain.targets.items():
        _require_layer(path, target, plain.method)
    rank, scale = uniform.common(plain.targets.values())
    config = _config(plain, rank, scale)
    found = {
        f"{path}:{name}": (
            f"{path}.{SLOTS[name]}",
            _laid(name, value, rank, uniform.scale(target.config) / (scale or 1)),
        )
        for path, target in plain.targets.items()
        for name, value in same.at(plain, path).items()
    }
    with replacing_folder(out, force) as folder:
        (folder / CONFIG).write_text(json.dumps(config, indent=4, sort_keys=True) + "\n", encoding="utf-8")
        saving.save(folder / WEIGHTS, dict(found.values()), {"format": "mlx", saving.ABOUT: saving.about(adapter)})
    return Written(out / WEIGHTS, {ours: theirs for ours, (theirs, _) in found.items()})


def _require_method(adapter: Adapter) -> None:
    if adapter.method == FULL:
        raise Unsupported(
            "MLX's `full` holds whole parameters, which are the base's with the change in them",
            hint="merge it (`adaptr merge`): MLX-LM loads the checkpoint",
        )
    if adapter.method not in (LORA, DORA):
        raise Unsupported(
            f"MLX has no equivalent of `{adapter.method}`",
            hint="it can hold lora and dora; `adaptr convert --method lora` makes one of what has a delta",
        )


def _require_layer(path: str, target: Target, method: str) -> None:
    if target.kind not in _KINDS or (method == DORA and target.kind == kinds.TABLE):
        layers = "linear layers" if method == DORA else "linear layers and embeddings"
        raise Unsupported(f"`{path}` is a `{target.kind}`, and MLX has {method} of {layers} alone", hint=phrases.OWN)
    if target.config.get("bias"):
        raise Unsupported(f"`{path}`: MLX has no bias of a LoRA", hint=phrases.OWN)


# ---------------------------------------------------------------- tensors


def _laid(name: str, value: Same, rank: int, factor: float) -> Tensor | Same:
    """A tensor as it lies there."""
    if name == "m":
        return uniform.narrowed(value)
    return uniform.filled(name, value, rank, factor).mT.contiguous()


# ---------------------------------------------------------------- configuration


def _config(adapter: Adapter, rank: int, scale: float) -> dict[str, Any]:
    """`adapter_config.json`: what it was, as far as that is still true."""
    kept = adapter.foreign.get("mlx", {})
    before = dict(kept.get("config", {}))
    there = kept.get("paths") == placing.ordered(adapter.targets) and "num_layers" in before
    dropout = max(float(target.config["dropout"]) for target in adapter.targets.values())
    said = {"rank": rank, "scale": scale, "dropout": dropout}
    old = dict(before.get(PARAMETERS) or {})
    if any(old.get(name) != value for name, value in said.items()):
        old.pop("alpha", None)  # MLX-LM does not read it, and people would
    parameters = {**old, **said} if there else {**said, "keys": _keys(adapter.targets)}
    layers = before["num_layers"] if there else -1
    made = {"num_layers": layers, "fine_tune_type": adapter.method, MODEL: adapter.base.id, PARAMETERS: parameters}
    return {**before, **{name: value for name, value in made.items() if value != ""}}


def _keys(paths: Iterable[str]) -> list[str]:
    """What MLX-LM is told of modules: their names inside a layer where all layers have the same, else whole paths."""
    found = {path: LAYER.fullmatch(path) for path in paths}
    names: dict[str, set[str]] = {}
    for match in found.values():
        if match is not None:
            names.setdefault(f"{match['stack']}{match['number']}", set()).add(match["name"])
    same_names = len({frozenset(each) for each in names.values()}) == 1
    short = same_names and _first_to_last(names)
    return sorted({match["name"] if match is not None and short else path for path, match in found.items()})


def _first_to_last(layers: Iterable[str]) -> bool:
    """Whether no layer is left out of the one list that has them."""
    numbers = sorted(int(layer.rpartition(".")[2]) for layer in layers)
    stacks = {layer.rpartition(".")[0] for layer in layers}
    return len(stacks) == 1 and numbers == list(range(len(numbers)))
