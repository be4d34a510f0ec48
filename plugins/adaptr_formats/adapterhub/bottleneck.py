"""AdapterHub's bottlenecks: y = h + s (U g(D z + b_d) + b_u), h what a block puts out, before the sum with what goes
around it. What z is, the configuration and the model say: h, the sum, or what goes around the block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import Unsupported
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces.module import Layer, Module, Whole, complete
from adaptr_formats.adapterhub import keys, places
from adaptr_formats.adapterhub.config import BOTTLENECK, activation, asked

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr_formats.adapterhub.reading import Reading

SLOTS = {"D": "adapter_down.0.weight", "b_d": "adapter_down.0.bias", "U": "adapter_up.weight", "b_u": "adapter_up.bias"}
SCALING = "scaling"
#: What decides what a bottleneck computes, with the values that files of older versions mean.
_DEFAULTS: Mapping[str, Any] = {
    "original_ln_before": False, "original_ln_after": True, "residual_before_ln": True, "ln_before": False,
    "ln_after": False, "is_parallel": False, "non_linearity": None, "scaling": 1.0, "use_gating": False,
    "inv_adapter": None, "phm_layer": False,
}  # fmt: skip
#: What has no method, and why.
_MISSING = {
    "use_gating": "a gate, which weighs it for each text by what it reads",
    "ln_before": "a norm of its own before it",
    "ln_after": "a norm of its own behind it",
    "inv_adapter": "an invertible adapter of the embeddings",
    "phm_layer": "matrices that are sums of Kronecker products (PHM, Compacter)",
}


def read(reading: Reading, config: Mapping[str, Any]) -> Iterator[Layer | Whole]:
    said = asked(BOTTLENECK, config, _DEFAULTS)
    wanted = next((field for field in _MISSING if said[field]), None)
    if wanted is not None:
        raise _unknown(_MISSING[wanted], wanted)
    for module in reading.modules(keys.ADAPTERS):
        yield _layer(reading, module, said)


def _unknown(what: str, field: str) -> Unsupported:
    return Unsupported(
        f"the bottleneck has {what} (`{field}`), and adaptr has no method for that",
        hint="train it without, or keep it where it was trained",
    )


def _layer(reading: Reading, module: Module, said: Mapping[str, Any]) -> Layer:
    m, d = module.shape(SLOTS["D"], (2,))
    for name, want in (("b_d", (m,)), ("U", (d, m)), ("b_u", (d,))):
        module.require(SLOTS[name], module.shape(SLOTS[name], (len(want),)) == want, f"{want}, as {m} of {d} has it")
    pieces = {name: module.piece(slot, module.shapes[slot]) for name, slot in SLOTS.items()}
    values: dict[str, Any] = {"m": m, "activation": activation(said["non_linearity"])}
    layer, here = places.place(module.path, reading.said.model_type)
    scale, pieces = _scale(module, said, pieces)
    if said["is_parallel"]:
        values = {**values, "s": scale, "reads": places.joined(layer, here.stream)}
        at, method = here.at, "parallel"
    else:
        at, method, pieces = _sequential(here, said), "houlsby", _multiplied(pieces, scale)
    target = Target(places.joined(layer, at), kinds.PLACE, (d,), complete(method, values))
    return Layer(method, placing.output(reading.model, target), pieces)


def _sequential(here: places.Place, said: Mapping[str, Any]) -> str:
    """The module whose output the adapter reads and is added to. Raises `Unsupported` where there is none."""
    if not said["original_ln_after"]:
        raise _unknown("no sum behind it", "original_ln_after")
    if not said["original_ln_before"]:
        return here.at
    if said["residual_before_ln"] is not True:
        raise _unknown("a residual that is taken behind the sum", "residual_before_ln")
    if here.whole is None:
        raise _unknown("the sum or the norm behind its block to read", "original_ln_before")
    return here.whole


def _scale(module: Module, said: Mapping[str, Any], pieces: dict[str, Piece]) -> tuple[float, dict[str, Piece]]:
    """What a branch is multiplied by; a number for each feature is multiplied into it."""
    if not module.has(SCALING):
        return float(said["scaling"]), pieces
    (size,) = module.shape(SCALING, (1,))
    if size == 1:
        return float(module.file[module.keys[SCALING]]), pieces
    module.require(SCALING, (size,) == module.shapes[SLOTS["b_u"]], "one, or one for each feature")

    def times(value: Tensor) -> Tensor:
        factor = module.file[module.keys[SCALING]].double()
        return (value.double() * factor.view(-1, *(1 for _ in value.shape[1:]))).to(value.dtype)

    return 1.0, _then(pieces, times)


def _multiplied(pieces: dict[str, Piece], scale: float) -> dict[str, Piece]:
    if scale == 1.0:
        return pieces
    return _then(pieces, lambda value: (value.double() * scale).to(value.dtype))


def _then(pieces: dict[str, Piece], done: Callable[[Tensor], Tensor]) -> dict[str, Piece]:
    """The pieces with something done to the second layer."""
    import dataclasses

    return {**pieces, **{name: dataclasses.replace(pieces[name], then=done) for name in ("U", "b_u")}}
