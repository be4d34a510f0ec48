"""The bottlenecks of a file, each as the method that does the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces.module import Layer, Module, Whole, complete
from adaptr_formats.adapterhub import gates, invertible, keys, places
from adaptr_formats.adapterhub.bottleneck import around, matrices, products, scale
from adaptr_formats.adapterhub.bottleneck.fields import DEFAULTS, MISSING, unknown
from adaptr_formats.adapterhub.config import BOTTLENECK, activation, asked

if TYPE_CHECKING:
    from adaptr_formats.adapterhub.reading import Reading


def read(reading: Reading, config: Mapping[str, Any]) -> Iterator[Layer | Whole]:
    said = asked(BOTTLENECK, config, DEFAULTS)
    wanted = next((field for field in MISSING if said[field]), None)
    if wanted is not None:
        raise unknown(MISSING[wanted], wanted)
    if said["inv_adapter"]:
        yield from invertible.read(reading, said)
    shared = reading.modules(keys.SHARED) if said["phm_layer"] and said["shared_phm_rule"] else []
    for module in reading.modules(keys.ADAPTERS):
        yield _layer(reading, module, said, shared)


def _layer(reading: Reading, module: Module, said: Mapping[str, Any], shared: list[Module]) -> Layer:
    layer, here = places.place(module.path, reading.said.model_type)
    made = products.read(module, said, shared) if said["phm_layer"] else matrices.read(module, said)
    method, values, pieces, rules = made
    beside = bool(said["is_parallel"])
    if here.turned and (beside or not said["original_ln_before"]):
        beside, said = not beside, {**said, "original_ln_before": False}
    (d,) = pieces["b_u"].shape
    values["activation"] = activation(said["non_linearity"])
    if said["use_gating"]:
        pieces |= _gate(module, method, said, d)
        method, values["of"] = "gated-pfeiffer", gates.OF
    factor, pieces = scale.read(module, said, pieces)
    if beside:
        if method != "houlsby" or said["ln_before"]:
            raise unknown("more than two matrices beside a block", "is_parallel")
        around.require_stream(here)
        method, values = "parallel", {**values, "s": factor, "reads": places.joined(layer, here.stream)}
    else:
        pieces = scale.multiplied(pieces, factor)
        behind = around.behind(layer, here, said)
        own = {**behind, **({"normed": True} if said["ln_before"] else {})}
        method = "pfeiffer" if own and method == "houlsby" else method
        if method in ("compacter", "phm") and (said["ln_before"] or "keeps" in own):
            raise unknown("Kronecker products with a norm or a residual of its own", "phm_layer")
        values |= own
    target = Target(places.joined(layer, here.at), kinds.PLACE, (d,), complete(method, values))
    return Layer(method, placing.output(reading.model, target), pieces, rules)


def _gate(module: Module, method: str, said: Mapping[str, Any], d: int) -> dict[str, Piece]:
    if method != "houlsby" or said["is_parallel"]:
        raise unknown("a gate, and is no two matrices behind a block", "use_gating")
    if said["ln_before"] or (said["original_ln_before"] and said["residual_before_ln"] is not True):
        raise unknown("a gate with a norm or a residual of its own", "use_gating")
    return gates.pieces(module, 1, d)
