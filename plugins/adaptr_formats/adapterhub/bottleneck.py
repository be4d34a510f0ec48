"""AdapterHub's bottlenecks: y = k + s (U g(D z + b_d) + b_u), h what a block puts out and r what goes around it.

z is h; or h + r behind the norm that the model has there, if it has one; or r (`is_parallel`). k is h, or what is read.
D and U are matrices, or sums of Kronecker products (PHM, and with rules that all share, Compacter).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import TensorAbsent, Unsupported
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.pieces.module import Layer, Module, Whole, complete
from adaptr_formats.adapterhub import gates, invertible, keys, layouts, places
from adaptr_formats.adapterhub.config import BOTTLENECK, activation, asked, conflict

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr_formats.adapterhub.reading import Reading

SCALING, RULE = "scaling", "phm_rule"
#: The norm before D, by adaptr's names. AdapterHub has it twice, and D behind it.
NORM = {"g": "adapter_norm_before.weight", "c": "adapter_norm_before.bias"}
#: What decides what a bottleneck computes, with the values that files of older versions mean.
_DEFAULTS: Mapping[str, Any] = {
    "original_ln_before": False, "original_ln_after": True, "residual_before_ln": True, "ln_before": False,
    "ln_after": False, "is_parallel": False, "non_linearity": None, "scaling": 1.0, "use_gating": False,
    "inv_adapter": None, "phm_layer": False, "factorized_phm_W": True, "shared_W_phm": False, "shared_phm_rule": True,
    "factorized_phm_rule": False,
}  # fmt: skip
#: What has no method, and why.
_MISSING = {
    "ln_after": "a norm of its own behind it",
}
#: What the output is added to, by `residual_before_ln`.
_KEEPS = {True: "output", False: "read", "post_add": "sum"}


def slots(said: Mapping[str, Any]) -> dict[str, str]:
    """Where D and the rest are."""
    down = "adapter_down.1" if said["ln_before"] else "adapter_down.0"
    bias = "b" if said["phm_layer"] else "bias"
    biases = {"b_d": f"{down}.{bias}", "b_u": f"adapter_up.{bias}"}
    if not said["phm_layer"]:
        return {"D": f"{down}.weight", "U": "adapter_up.weight", **biases}
    sides = {"d": down, "u": "adapter_up"}
    return {f"{n}_{s}": f"{at}.W_{w}" for s, at in sides.items() for n, w in (("s", "left"), ("t", "right"))} | biases


def read(reading: Reading, config: Mapping[str, Any]) -> Iterator[Layer | Whole]:
    said = asked(BOTTLENECK, config, _DEFAULTS)
    wanted = next((field for field in _MISSING if said[field]), None)
    if wanted is not None:
        raise _unknown(_MISSING[wanted], wanted)
    if said["inv_adapter"]:
        yield from invertible.read(reading, said)
    shared = reading.modules(keys.SHARED) if said["phm_layer"] and said["shared_phm_rule"] else []
    for module in reading.modules(keys.ADAPTERS):
        yield _layer(reading, module, said, shared)


def _unknown(what: str, field: str) -> Unsupported:
    return Unsupported(
        f"the bottleneck has {what} (`{field}`), and adaptr has no method for that",
        hint="train it without, or keep it where it was trained",
    )


def _layer(reading: Reading, module: Module, said: Mapping[str, Any], shared: list[Module]) -> Layer:
    layer, here = places.place(module.path, reading.said.model_type)
    made = _products(module, said, shared) if said["phm_layer"] else _matrices(module, said)
    method, values, pieces, rules = made
    beside = bool(said["is_parallel"])
    if here.turned and (beside or not said["original_ln_before"]):
        beside, said = not beside, {**said, "original_ln_before": False}
    (d,) = pieces["b_u"].shape
    values["activation"] = activation(said["non_linearity"])
    if said["use_gating"]:
        pieces |= _gate(module, method, said, d)
        method, values["of"] = "gated-pfeiffer", gates.OF
    scale, pieces = _scale(module, said, pieces)
    if beside:
        if method != "houlsby" or said["ln_before"]:
            raise _unknown("more than two matrices beside a block", "is_parallel")
        _require_stream(here)
        method, values = "parallel", {**values, "s": scale, "reads": places.joined(layer, here.stream)}
    else:
        pieces = _multiplied(pieces, scale)
        behind = _behind(layer, here, said)
        own = {**behind, **({"normed": True} if said["ln_before"] else {})}
        method = "pfeiffer" if own and method == "houlsby" else method
        if method in ("compacter", "phm") and (said["ln_before"] or "keeps" in own):
            raise _unknown("Kronecker products with a norm or a residual of its own", "phm_layer")
        values |= own
    target = Target(places.joined(layer, here.at), kinds.PLACE, (d,), complete(method, values))
    return Layer(method, placing.output(reading.model, target), pieces, rules)


def _gate(module: Module, method: str, said: Mapping[str, Any], d: int) -> dict[str, Piece]:
    if method != "houlsby" or said["is_parallel"]:
        raise _unknown("a gate, and is no two matrices behind a block", "use_gating")
    if said["ln_before"] or (said["original_ln_before"] and said["residual_before_ln"] is not True):
        raise _unknown("a gate with a norm or a residual of its own", "use_gating")
    return gates.pieces(module, 1, d)


def _behind(layer: str, here: layouts.Place, said: Mapping[str, Any]) -> dict[str, Any]:
    """What is read and what is kept where that is not the block's output."""
    if not said["original_ln_after"]:
        raise _unknown("no sum behind it", "original_ln_after")
    if not said["original_ln_before"]:
        return {}
    _require_stream(here)
    keeps = _KEEPS.get(said["residual_before_ln"])
    if keeps is None or (keeps == "sum" and not here.norm):
        raise _unknown("a residual that its own library has not", "residual_before_ln")
    norm = places.joined(layer, here.norm) if here.norm else ""
    found = {"residual": True, "calls": norm, "reads": places.joined(layer, here.stream)}
    return found if keeps == "output" else {**found, "keeps": keeps}


def _require_stream(here: layouts.Place) -> None:
    if not here.stream:
        raise Unsupported(
            "in this type of model what goes around the feed-forward has the attention's output in it, which no module "
            "gets",
            hint="train it with `original_ln_before=False`, of the output alone",
        )


_Made = tuple[str, dict[str, Any], dict[str, Piece], dict[str, Piece]]


def _matrices(module: Module, said: Mapping[str, Any]) -> _Made:
    named = slots(said)
    m, d = module.shape(named["D"], (2,))
    shapes = {"D": (m, d), "b_d": (m,), "U": (d, m), "b_u": (d,)}
    if said["ln_before"]:
        named, shapes = {**named, **NORM}, {**shapes, "g": (d,), "c": (d,)}
    return "houlsby", {"m": m}, _pieces(module, named, shapes), {}


def _products(module: Module, said: Mapping[str, Any], shared: list[Module]) -> _Made:
    """The method `compacter`, or `phm` where each projection has rules of its own."""
    if said["shared_W_phm"] or said["factorized_phm_rule"] or not said["factorized_phm_W"]:
        raise _unknown("Kronecker products other than Compacter's", "phm_layer")
    named = slots(said)
    (n, d_n, r), (_, _, m_n) = module.shape(named["s_d"], (3,)), module.shape(named["t_d"], (3,))
    m, d = n * m_n, n * d_n
    shapes = {"s_d": (n, d_n, r), "t_d": (n, r, m_n), "b_d": (m,), "s_u": (n, m_n, r), "t_u": (n, r, d_n), "b_u": (d,)}
    pieces = _pieces(module, named, shapes)
    if said["shared_phm_rule"]:
        rules = _pieces(_rules(shared), {"A": RULE}, {"A": (n, n, n)})
        return "compacter", {"m": m, "n": n, "r": r}, pieces, rules
    down = named["b_d"].rpartition(".")[0]
    own = _pieces(module, {"A_d": f"{down}.{RULE}", "A_u": f"adapter_up.{RULE}"}, {"A_d": (n, n, n), "A_u": (n, n, n)})
    for side, (rows, columns) in (("d", (d_n, m_n)), ("u", (m_n, d_n))):
        left, right = pieces.pop(f"s_{side}"), pieces.pop(f"t_{side}")
        own[f"B_{side}"] = dataclasses.replace(left, shape=(n, rows, columns), then=_times(module, right.source))
    return "phm", {"m": m, "n": n}, {**pieces, **own}, {}


def _times(module: Module, key: str) -> Callable[[Tensor], Tensor]:
    return lambda left: (left.double() @ module.file[key].double()).to(left.dtype)


def _rules(shared: list[Module]) -> Module:
    """Raises `TensorAbsent` where the rules that all layers share are not there."""
    if not shared:
        raise TensorAbsent(
            "the file has no `phm_rule`, which all its layers share: AdapterHub before 1.0 did not save it",
            hint="it can't be had from the rest: save it again from the model that was trained",
        )
    if len(shared) > 1:
        raise conflict(f"the file has {len(shared)} sets of what all layers share")
    return shared[0]


def _pieces(module: Module, named: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Piece]:
    for name, want in shapes.items():
        module.require(named[name], module.shape(named[name], (len(want),)) == want, f"shape {want}, as the others say")
    return {name: module.piece(named[name], want) for name, want in shapes.items()}


def _scale(module: Module, said: Mapping[str, Any], pieces: dict[str, Piece]) -> tuple[float, dict[str, Piece]]:
    """What a branch is multiplied by; a number for each feature is multiplied into it."""
    if not module.has(SCALING):
        return fields_of.number(said, "scaling"), pieces
    (size,) = module.shape(SCALING, (1,))
    if size == 1:
        return float(module.file[module.keys[SCALING]]), pieces
    if "U" not in pieces:
        raise _unknown("a factor for each feature of Kronecker products", "scaling")
    module.require(SCALING, (size,) == pieces["b_u"].shape, "one, or one for each feature")

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

    def after(piece: Piece) -> Callable[[Tensor], Tensor]:
        first = piece.then
        return done if first is None else lambda value: done(first(value))

    last = [name for name in ("U", "t_u", "B_u", "b_u") if name in pieces]
    return {**pieces, **{name: dataclasses.replace(pieces[name], then=after(pieces[name])) for name in last}}
