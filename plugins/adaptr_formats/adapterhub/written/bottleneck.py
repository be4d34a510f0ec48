"""Bottlenecks as AdapterHub has them: behind attentions and feed-forwards, of one configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.errors import Unsupported, phrases
from adaptr.foreign import same
from adaptr_formats.adapterhub import layouts, places
from adaptr_formats.adapterhub.bottleneck import fields
from adaptr_formats.adapterhub.written import gates
from adaptr_formats.adapterhub.written.layers import Layers, Made, elsewhere, one

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter, Target
    from adaptr.foreign.same import Same

CALLED = {"relu": "relu", "silu": "swish", "gelu": "gelu", "gelu_new": "gelu_new", "tanh": "tanh"}
_KEEPS = {kept: said for said, kept in fields.KEEPS.items()}
_Tensors = dict[str, tuple[str, "Tensor | Same"]]


def write(adapter: Adapter, layers: Layers) -> Made:
    groups = layers.grouped(adapter)
    here = {path: _place(path, layers) for path in adapter.targets}
    said = one((_said(adapter.method, path, target, layers) for path, target in adapter.targets.items()), "set-up")
    sizes = layers.by_number(groups, lambda target: int(target.config["m"]), "size")
    scales = {path: float(target.config.get("s", 1.0)) for path, target in adapter.targets.items()}
    learned = len(set(scales.values())) > 1
    if adapter.method == "gated-pfeiffer":
        gates.require_texts(adapter.targets.values())
    config = {
        **said,
        **_on(here, layers),
        "leave_out": layers.left_out(groups),
        "reduction_factor": _reduced(sizes, layers.width),
        "scaling": "learned" if learned else next(iter(scales.values())),
        "use_gating": adapter.method == "gated-pfeiffer",
    }  # fmt: skip
    tensors: _Tensors = {}
    for path in adapter.targets:
        at = f"{places.joined(places.divided(path)[0], here[path].tensors)}.adapters.{layers.name}"
        tensors |= _tensors(adapter, path, at, said)
        if adapter.method == "gated-pfeiffer":
            tensors |= {f"{path}:{name}": laid for name, laid in gates.slots(same.at(adapter, path), at).items()}
        if learned:
            tensors[f"{path}:s"] = (f"{at}.{fields.SCALING}", _number(scales[path]))
    if ":A" in adapter.tensors:
        root = layers.root(next(iter(groups)))
        tensors[":A"] = (f"{root}shared_parameters.{layers.name}.{fields.RULE}", same.whole(adapter, ":A"))
    return Made(config, tensors)


def _number(value: float) -> Tensor:
    import torch

    return torch.tensor([value])


def _place(path: str, layers: Layers) -> layouts.Place:
    layer, rest = places.divided(path)
    found = next((place for place in layers.model.at(layer).bottlenecks if rest in (place.at, place.same)), None)
    if found is None:
        raise elsewhere(rest, "bottleneck")
    return found


def _on(here: Mapping[str, layouts.Place], layers: Layers) -> dict[str, bool]:
    """The fields of all layers that have some. An encoder has none behind attentions to another text."""
    fields: dict[str, set[str]] = {}
    for path, place in here.items():
        fields.setdefault(places.divided(path)[0], set()).add(place.field)
    shared = one((found - {layouts.CROSS} for found in fields.values()), "set of places")
    crossed = any(layouts.CROSS in found for found in fields.values())
    own = {field: field in shared for field in (layouts.ATTENTION, layouts.FEED_FORWARD)}
    return {**own, **({layouts.CROSS: crossed} if layers.model.encoder else {})}


def _said(method: str, path: str, target: Target, layers: Layers) -> dict[str, Any]:
    """What a configuration says of one target."""
    layer, _ = places.divided(path)
    here, config, beside = _place(path, layers), target.config, method == "parallel"
    made: dict[str, Any] = {
        "non_linearity": CALLED[config["activation"]],
        "dropout": config.get("dropout", 0.0),
        "is_parallel": beside,
        "ln_before": bool(config.get("normed")),
        "original_ln_after": True,
        "residual_before_ln": _KEEPS[config.get("keeps", "output")],
        "phm_layer": method.startswith("compacter"),
    }
    if made["phm_layer"]:
        made |= {"phm_dim": config["n"], "phm_rank": config["r"], "factorized_phm_W": True, "shared_phm_rule": True}
    stream, summed = here.stream and places.joined(layer, here.stream), bool(config.get("residual"))
    if here.turned and not summed:
        made["is_parallel"] = not beside
    if beside:
        _require(config["reads"] or path, stream, path, "what goes around its block")
        return {**made, "original_ln_before": False}
    if summed:
        _require(config["reads"], stream, path, "what goes around its block")
        _require(config["calls"], here.norm and places.joined(layer, here.norm), path, "the norm behind its sum")
    elif config.get("calls"):
        raise elsewhere(path, "bottleneck with a norm of the model that no sum goes into")
    return {**made, "original_ln_before": summed}


def _require(found: str, wanted: str, path: str, what: str) -> None:
    # a target has the name that the base has for it, and what it reads that of the file that it came from
    same_name = found == wanted or found.endswith(f".{wanted}") or wanted.endswith(f".{found}")
    if bool(found) != bool(wanted) or not same_name:
        raise Unsupported(
            f"`{path}` reads `{found or 'nothing'}`, and AdapterHub's bottleneck {what}, `{wanted or 'nothing'}`",
            hint=phrases.OWN,
        )


def _tensors(adapter: Adapter, path: str, at: str, said: Mapping[str, Any]) -> _Tensors:
    slots = {**fields.slots(said), **(fields.NORM if said["ln_before"] else {})}
    own = same.at(adapter, path)
    found: _Tensors = {f"{path}:{name}": (f"{at}.{slot}", own[name]) for name, slot in slots.items()}
    return found


def _reduced(sizes: Mapping[int, int], width: int) -> float | dict[str, float]:
    """By how much the width is divided, of all layers, or by their numbers."""
    factors = {layer: _factor(width, m) for layer, m in sizes.items()}
    first = next(iter(factors.values()))
    if all(factor == first for factor in factors.values()):
        return first
    return {"default": first, **{str(layer): factor for layer, factor in factors.items() if factor != first}}


def _factor(width: int, m: int) -> float:
    """AdapterHub's size is `int(width // factor)`."""
    if width % m == 0:
        return width // m
    factor = width / m
    while int(width // factor) < m:
        factor = math.nextafter(factor, 0)
    return factor
