"""MLX-LM's adapters, `adapters.safetensors` with `adapter_config.json`: LoRA and DoRA of linear layers and tables.

A layer's factors are `lora_a` (in, r) and `lora_b` (r, out), its magnitudes `m`; all have one rank and one `scale`. MLX
puts factors on the named modules of the last `num_layers` layers, all for -1; those that the file lacks change nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Adapter, Base, Target, public
from adaptr.errors import ConfigConflict, ConfigMissing, TensorUnknown, Unsupported
from adaptr.files import replacing_folder
from adaptr.foreign import Format, Marks, Written, finish, placing, same, saving
from adaptr.foreign.draft import Piece, Pieces
from adaptr.foreign.seen import CONFIG, config_of
from adaptr.foreign.stored import contents

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from adaptr.foreign.format import BaseModel

WEIGHTS = "adapters.safetensors"
SLOTS = {"A": "lora_a", "B": "lora_b", "m": "m"}
_KEY = re.compile(r"(?P<path>.+)\.(?P<slot>lora_a|lora_b|m)")
_LAYER = re.compile(r".*?\.layers\.\d+\.(?P<name>.+)")
Shapes = Mapping[str, tuple[int, ...]]


class Mlx(Format):
    name = "mlx"
    tool = "MLX"
    called = "an MLX adapter"
    marks = Marks(
        files=(WEIGHTS, "adapters.npz"), config=("fine_tune_type", "lora_parameters"), keys=(r".*\.lora_[ab]",)
    )

    def read(self, path: Path, base: BaseModel | None = None) -> Adapter:
        weights = self.weights(path)
        if weights.suffix == ".npz":
            raise Unsupported(f"`{weights}`: save it as safetensors with MLX (`mx.save_safetensors`) first")
        config = config_of(weights.parent)
        if config is None:
            raise ConfigMissing(f"`{weights}` has no `{CONFIG}` beside it, which has the scale of its factors")
        tensors, shapes, metadata = contents(weights)
        method, values = _values(config)
        targets, pieces = _targets(method, shapes, values)
        _require_layers(targets, config)
        made = Adapter(
            method=method,
            config=values,
            targets=_placed(targets, base),
            tensors=Pieces(tensors, pieces),
            base=_base(config),
            source=str(weights),
        )
        finish.check(made, pieces)
        return finish.named(made, saving.told(metadata)).replace(foreign={"mlx": _kept(config, targets)})

    def lost(self, adapter: Adapter) -> list[str]:
        _require_method(adapter)
        rates = {target.config["dropout"] for target in adapter.targets.values()}
        whole = [f"the whole parameter `{path}`" for path in adapter.replaced_paths]
        return [*saving.lost(adapter), *whole, *(["different dropout rates of targets"] if len(rates) > 1 else [])]

    def save(self, adapter: Adapter, out: Path, force: bool) -> Written:
        config = _config(adapter)
        plain = saving.plain(adapter)
        found = {f"{path}:{name}": _written(plain, path, name) for path in plain.targets for name in plain.shapes(path)}
        with replacing_folder(out, force) as folder:
            (folder / CONFIG).write_text(json.dumps(config, indent=4, sort_keys=True) + "\n", encoding="utf-8")
            saving.save(folder / WEIGHTS, dict(found.values()), {"format": "mlx", saving.ABOUT: saving.about(adapter)})
        return Written(out / WEIGHTS, {ours: theirs for ours, (theirs, _) in found.items()})


# ---------------------------------------------------------------- reading


def _values(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """adaptr's method and its configuration."""
    method = config.get("fine_tune_type", "lora")
    if method not in ("lora", "dora"):
        raise Unsupported(f"`fine_tune_type` is {method!r}: save the model whole; `adaptr extract` makes a LoRA of it")
    said = config.get("lora_parameters")
    r, scale, dropout = (_number(said, name) for name in ("rank", "scale", "dropout"))
    if r != int(r) or r < 1:
        raise ConfigConflict(f"`rank` in `{CONFIG}` is {r}, wanted a positive integer")
    values = {"r": int(r), "alpha": scale * int(r), "dropout": float(dropout), "rslora": False}
    return method, values if method == "dora" else {**values, "bias": False}


def _number(said: Any, name: str) -> float:
    value = said.get(name) if isinstance(said, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
        raise ConfigConflict(f"`lora_parameters` in `{CONFIG}` has the {name} {value!r}, wanted a number")
    return value


def _targets(method: str, shapes: Shapes, values: Mapping[str, Any]) -> tuple[dict[str, Target], dict[str, Piece]]:
    """Targets and pieces; which names a target has, its shapes must agree with."""
    places: dict[str, dict[str, str]] = {}
    for key in shapes:
        found = _KEY.fullmatch(key)
        if found is None:
            raise TensorUnknown(f"`{key}` is no tensor of MLX's {method}")
        places.setdefault(found["path"], {})[found["slot"]] = key
    targets, pieces = {}, {}
    wanted = {name: slot for name, slot in SLOTS.items() if name != "m" or method == "dora"}
    for path, slots in places.items():
        if set(slots) != set(wanted.values()):
            raise ConfigConflict(
                f"`{path}` has {', '.join(sorted(slots))}; MLX's {method} has {', '.join(wanted.values())}"
            )
        target, own = _target(path, {name: slots[slot] for name, slot in wanted.items()}, shapes, values)
        targets[path] = target
        pieces |= {f"{path}:{name}": piece for name, piece in own.items()}
    return targets, pieces


def _target(
    path: str, keys: Mapping[str, str], shapes: Shapes, values: Mapping[str, Any]
) -> tuple[Target, dict[str, Piece]]:
    a, b = shapes[keys["A"]], shapes[keys["B"]]
    if len(a) != 2 or len(b) != 2 or a[1] != values["r"] or b[0] != values["r"]:
        raise ConfigConflict(f"`{path}`: the configuration says rank {values['r']}, the factors are {a} and {b}")
    table = path.rpartition(".")[2].startswith("embed")
    pieces = {"A": Piece(keys["A"], a[::-1], order=(1, 0)), "B": Piece(keys["B"], b[::-1], order=(1, 0))}
    pieces |= {"m": Piece(keys["m"], shapes[keys["m"]])} if "m" in keys else {}
    return Target(path, "embedding" if table else "linear", (b[1], a[0]), dict(values)), pieces


def _placed(targets: Mapping[str, Target], base: BaseModel | None) -> dict[str, Target]:
    """Targets as the base has them. Raises a `WrongBase`."""
    from adaptr.checkpoint.skeleton import skeleton

    model = None if base is None else skeleton(base)
    return {path: placing.agreed(model, target) for path, target in targets.items()}


def _require_layers(targets: Mapping[str, Target], config: Mapping[str, Any]) -> None:
    """Raises `ConfigConflict` for factors in more layers than MLX would look at."""
    most = config.get("num_layers", -1)
    there = {path.partition(".layers.")[2].partition(".")[0] for path in targets} - {""}
    if not isinstance(most, int) or 0 < most < len(there):
        raise ConfigConflict(f"`num_layers` in `{CONFIG}` is {most!r}, and the file has factors in {len(there)} layers")


def _base(config: Mapping[str, Any]) -> Base:
    model = config.get("model")
    return Base(public.name(model)) if isinstance(model, str) else Base()


def _kept(config: Mapping[str, Any], targets: Mapping[str, Target]) -> dict[str, Any]:
    """What is kept of a configuration for the way back: no path of the machine it was made on."""
    own = {name: value for name, value in config.items() if not isinstance(value, str | list)}
    return {"config": own, "paths": placing.ordered(targets)}


# ---------------------------------------------------------------- writing


def _config(adapter: Adapter) -> dict[str, Any]:
    """`adapter_config.json`: what it was, as far as it is still true. Raises `Unsupported` for what MLX can't say."""
    _require_method(adapter)
    r, scale = _one(adapter)
    kept = adapter.foreign.get("mlx", {})
    same_places = kept.get("paths") == placing.ordered(adapter.targets)
    before = dict(kept.get("config", {}))
    parameters = {**(before.get("lora_parameters", {}) if same_places else {"keys": _modules(adapter)})}
    parameters |= {"rank": r, "scale": scale, "dropout": next(iter(adapter.targets.values())).config["dropout"]}
    made = {**before, "fine_tune_type": adapter.method, "lora_parameters": parameters}
    made |= {} if same_places else {"num_layers": -1}
    return made | ({"model": adapter.base.id} if adapter.base.id else {})


def _require_method(adapter: Adapter) -> None:
    if adapter.method not in ("lora", "dora"):
        raise Unsupported(f"MLX has no equivalent of `{adapter.method}`; it can hold lora, dora")


def _one(adapter: Adapter) -> tuple[int, float]:
    """The one rank and scale. Raises `Unsupported` for several, and for layers that MLX has no LoRA for."""
    for path, target in adapter.targets.items():
        if target.kind not in ("linear", "embedding") or target.config.get("bias"):
            bias = " with a bias" if target.config.get("bias") else ""
            raise Unsupported(f"`{path}`: MLX has no LoRA for a `{target.kind}`{bias}")
    found = {(t.config["r"], t.config["alpha"], bool(t.config["rslora"])) for t in adapter.targets.values()}
    if len(found) != 1:
        raise Unsupported(f"MLX has one rank and one scale for all layers; this adapter has {len(found)}")
    r, alpha, rslora = found.pop()
    return r, alpha / (r**0.5 if rslora else r)


def _modules(adapter: Adapter) -> list[str]:
    """What MLX calls the adapted modules: by their names inside a layer, or whole."""
    return sorted({found["name"] if (found := _LAYER.fullmatch(path)) else path for path in adapter.targets})


def _written(adapter: Adapter, path: str, name: str) -> tuple[str, Tensor | same.Same]:
    own = same.at(adapter, path)[name]
    return f"{path}.{SLOTS[name]}", own if name == "m" else own.tensor.mT.contiguous()
