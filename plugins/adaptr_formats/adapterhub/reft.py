"""AdapterHub's interventions: LoReFT, whose basis is a product of Householder's reflections, NoReFT and DiReFT.

What DiReFT does not subtract is no field of a configuration, so that its files are NoReFT's: which it is must be said.
Where a text is shorter than its first and last positions together, AdapterHub lets the last have those that are both,
adaptr the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigMissing, Unsupported
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.pieces import reflections
from adaptr.foreign.pieces.module import Layer, Module, Whole, complete
from adaptr_formats.adapterhub import keys
from adaptr_formats.adapterhub.config import REFT, asked, conflict

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr_formats.adapterhub.reading import Reading

_DEFAULTS: Mapping[str, Any] = {
    "prefix_positions": 3, "suffix_positions": 0, "r": 1, "orthogonality": True, "tied_weights": False,
    "non_linearity": None, "output_reft": True, "subtract_projection": None,
}  # fmt: skip
_AT, W, B = "reft_layer", "learned_source.weight", "learned_source.bias"
PROJECTION = "projection.weight"
_BASIS = tuple(f"projection.parametrizations.weight.{name}" for name in ("original", "0.base"))
#: adaptr's names of what is read, what is projected on, and the bias.
_NAMES = {"loreft": ("W", "R", "b"), "noreft": ("W", "R", "b"), "direft": ("W1", "W2", "b")}


def read(reading: Reading, config: Mapping[str, Any]) -> Iterator[Layer | Whole]:
    said = asked(REFT, config, _DEFAULTS)
    if said["non_linearity"] is not None or not said["output_reft"]:
        raise Unsupported(
            "its intervention has a non-linearity, or is at no output of a layer, and adaptr has no method for that",
            hint="train it without",
        )
    method = _method(reading, said)
    values: dict[str, Any] = {
        "r": fields_of.size(said, "r"),
        "first": _count(said, "prefix_positions"),
        "last": _count(said, "suffix_positions"),
        "share_weights": fields_of.flag(said, "tied_weights"),
        "dropout": fields_of.number(config, "dropout", 0.0),
        **({"finished": True} if method == "loreft" else {}),
    }
    for module in reading.modules(keys.REFTS):
        yield _layer(reading, module, method, values)


def _method(reading: Reading, said: Mapping[str, Any]) -> str:
    """Raises `ConfigMissing` where it may be one or the other."""
    subtracts = said["subtract_projection"]
    if said["orthogonality"] or subtracts is not None:
        reading.supplied.refuse("its configuration says which intervention it is", "reft")
        return "loreft" if said["orthogonality"] else "noreft" if subtracts else "direft"
    if reading.supplied.reft is None:
        raise ConfigMissing(
            "it is NoReFT or DiReFT: AdapterHub saves them alike, and reads both as NoReFT, so that what was trained "
            "as DiReFT is something else afterwards",
            hint="say which was trained (`--reft noreft`, `--reft direft`; `adaptr.source` in Python)",
        )
    return reading.supplied.reft


def _count(said: Mapping[str, Any], name: str) -> int:
    value = said[name]
    if type(value) is not int or value < 0:
        raise fields_of.misread(name, value, "a number of positions")
    return value


def _layer(reading: Reading, module: Module, method: str, values: Mapping[str, Any]) -> Layer:
    path, _, last = module.path.rpartition(".")
    if last != _AT:
        raise conflict(f"`{module.path}` is no place of an intervention")
    r, d = module.shape(f"units.0.{W}", (2,))
    module.require(f"units.0.{W}", r == values["r"], f"{values['r']} rows, as the configuration says")
    pieces: dict[str, Piece] = {}
    for unit, suffix in enumerate(("",) if values["share_weights"] else ("", "_s")):
        pieces |= _unit(module, f"units.{unit}", method, suffix, (r, d))
    target = Target(path, kinds.PLACE, (d,), complete(method, values))
    return Layer(method, placing.output(reading.model, target), pieces)


def _unit(module: Module, unit: str, method: str, suffix: str, shape: tuple[int, int]) -> dict[str, Piece]:
    """The tensors of one end of a text."""
    (r, d), names = shape, [f"{name}{suffix}" for name in _NAMES[method]]
    for slot, want in ((W, shape), (B, (r,))):
        at = f"{unit}.{slot}"
        module.require(at, module.shape(at, (len(want),)) == want, f"{want}, as the others say")
    slots = [f"{unit}.{slot}" for slot in (_BASIS if method == "loreft" else (PROJECTION,))]
    module.require(slots[0], module.shape(slots[0], (2,)) == shape, f"{shape}, as `{W}` has it")
    projection = module.piece(slots[0], shape)
    if method == "loreft":
        module.require(slots[1], module.shape(slots[1], (2,)) == (d, d) and r < d, f"({d}, {d}), and fewer rows")
        projection = Piece(module.keys[slots[0]], shape, then=lambda original: _basis(original, module, slots[1]))
    found = (module.piece(f"{unit}.{W}", shape), projection, module.piece(f"{unit}.{B}", (r,)))
    return dict(zip(names, found, strict=True))


def _basis(original: Tensor, module: Module, slot: str) -> Tensor:
    """R (r, d) as torch makes it of what it trains."""
    return reflections.columns(original.mT, module.file[module.keys[slot]]).mT.to(original.dtype)
