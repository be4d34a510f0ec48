"""LoRA, DoRA, gated LoRA and (IA)3 as AdapterHub has them: of queries, keys, values and the feed-forward's two layers.

A LoRA of one layer for queries, keys and values has the same A for each of them: it is the same change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import kinds
from adaptr.errors import Unsupported, phrases
from adaptr.foreign import same
from adaptr.foreign.pieces import uniform
from adaptr_formats.adapterhub import layouts
from adaptr_formats.adapterhub.config import LORA
from adaptr_formats.adapterhub.written import gated
from adaptr_formats.adapterhub.written.layers import Layers, Made, elsewhere, one

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter, Target
    from adaptr.foreign.same import Same

_FIELDS = (layouts.SELF, layouts.INNER, layouts.OUTER)


def write(adapter: Adapter, layers: Layers) -> Made:
    groups = layers.grouped(adapter)
    found = {layer: _where(layer, group, layers) for layer, group in groups.items()}
    letters, fields = one(found.values(), "set of places")
    made = {"ia3": _scaled, "gated-lora": gated.made}.get(adapter.method, _added)
    config, tensors = made(adapter, layers, letters)
    told = {
        "attn_matrices": list(letters),
        "use_gating": False,
        **config,
        **{field: field in fields for field in _FIELDS},
        "architecture": LORA,
        "leave_out": layers.left_out(groups),
    }
    return Made(told, tensors)


def _where(layer: str, group: Mapping[str, Target], layers: Layers) -> tuple[str, frozenset[str]]:
    """(letters of a layer's attentions, fields that are on)."""
    known = layers.model.at(layer).factors
    other = next((rest for rest, target in group.items() if rest not in known or target.kind not in kinds.LAYERS), None)
    if other is not None:
        raise elsewhere(other, "LoRA")
    found = {known[rest] for rest in group}
    bare = next(
        (rest for rest, one in known.items() if one in found and one[0] == layouts.SELF and rest not in group), ""
    )
    if bare:
        raise Unsupported(
            f"AdapterHub has a LoRA at all attentions of a layer, and this has none at `{bare}`", hint=phrases.OWN
        )
    letters = "".join(letter for letter in "qkv" if any(letter in here for _, here in found))
    return letters, frozenset(field for field, _ in found)


_Tensors = dict[str, tuple[str, "Tensor | Same"]]


def _key(layers: Layers, path: str, slot: str) -> str:
    return f"{path}.loras.{layers.name}.{slot}"


def _added(adapter: Adapter, layers: Layers, letters: str) -> tuple[dict[str, Any], _Tensors]:
    rank, scale = uniform.common(adapter.targets.values())
    directed = adapter.method == "dora"
    scale = 1.0 if directed else scale or 1.0
    found: _Tensors = {}
    for path, target in adapter.targets.items():
        _require_plain(path, target, layers, directed)
        own, factor = same.at(adapter, path), uniform.scale(target.config) / scale
        laid = {name: _filled(name, own[name], rank, factor) for name in ("A", "B")}
        if layers.is_several(path):
            laid["A"] = _thrice(laid["A"])
        found |= {f"{path}:{name}": (_key(layers, path, f"lora_{name}"), value) for name, value in laid.items()}
        if directed:
            found[f"{path}:m"] = (_key(layers, path, "m.weight"), own["m"].reshape((target.shape[0], 1)))
    alpha = scale * rank
    dropout = one((target.config["dropout"] for target in adapter.targets.values()), "dropout rate")
    return {
        "r": rank,
        "alpha": int(alpha) if alpha == int(alpha) else alpha,
        "dropout": dropout,
        "composition_mode": "add",
        "init_weights": "lora",
        "use_dora": directed,
    }, found


def _filled(name: str, value: Same, rank: int, factor: float) -> Tensor | Same:
    whole = value.shape[0 if name == "A" else 1] == rank and (name == "A" or factor == 1)
    return uniform.narrowed(value) if whole else uniform.filled(name, value, rank, factor)


def _thrice(value: Tensor | Same) -> Tensor:
    tensor: Tensor = value.tensor if isinstance(value, same.Same) else value
    return tensor.repeat(3, 1)


def _require_plain(path: str, target: Target, layers: Layers, directed: bool) -> None:
    if target.config.get("bias"):
        raise Unsupported(f"`{path}`: AdapterHub has no bias of a LoRA", hint=phrases.OWN)
    named = any(one == path or one.endswith(f".{path}") or path.endswith(f".{one}") for one in layers.biased)
    if directed and (named or target.kind != kinds.LINEAR):
        raise Unsupported(
            f"`{path}`: AdapterHub's DoRA multiplies the layer's bias by its magnitudes, and adaptr's leaves it",
            hint=phrases.OWN,
        )


def _scaled(adapter: Adapter, layers: Layers, letters: str) -> tuple[dict[str, Any], _Tensors]:
    found: _Tensors = {}
    for path, target in adapter.targets.items():
        if target.config["side"] != "out":
            raise Unsupported(f"`{path}`: AdapterHub's (IA)3 scales outputs, and this an input", hint=phrases.OWN)
        if not target.config.get("bias", True):
            raise Unsupported(f"`{path}`: AdapterHub's (IA)3 scales the bias with the weight", hint=phrases.OWN)
        value = same.at(adapter, path)["l"].reshape((target.shape[0], 1))
        found[f"{path}:l"] = (_key(layers, path, "lora_B"), value)
    return {"r": 1, "alpha": 1, "dropout": 0.0, "composition_mode": "scale", "init_weights": "ia3"}, found
