"""AdapterHub's prefixes: keys and values of each attention, as they are (`flat`) or as a network makes them of a table.

The network has no use once it is trained: what it makes is what is read. Text stays at positions 0, 1, ...
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import TargetNotFound, TensorAbsent, Unsupported, phrases
from adaptr.families.insert import activation as function
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.pieces.module import Layer, Module, Whole, complete
from adaptr_formats.adapterhub import gates, keys
from adaptr_formats.adapterhub.config import PREFIX, activation, asked, conflict

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr_formats.adapterhub.reading import Reading

_SELF = "self_prefix."
FLAT, TABLE = f"{_SELF}control_trans", f"{_SELF}wte.weight"
W, B, U, C = (f"{_SELF}control_trans.{n}.{name}" for n in (0, 2) for name in ("weight", "bias"))
_DEFAULTS: Mapping[str, Any] = {
    "flat": False, "prefix_length": 30, "bottleneck_size": 512, "non_linearity": "tanh", "use_gating": False,
    "shared_gating": True,
}  # fmt: skip


def read(reading: Reading, config: Mapping[str, Any]) -> Iterator[Layer | Whole]:
    said = asked(PREFIX, config, _DEFAULTS)
    found = reading.modules(keys.PREFIXES)
    if len(found) != 1:
        raise conflict("the file holds no prefix")
    (module,) = found
    other = next((slot for slot in module.keys if not slot.startswith(_SELF)), None)
    if other is not None:
        raise Unsupported(
            f"`{module.keys[other]}` is a prefix of attentions to another text, which adaptr doesn't read",
            hint="train it with `cross_prefix=False`, `encoder_prefix=False`",
        )
    gated = {one.path: one for one in reading.modules(keys.GATES)} if said["use_gating"] else {}
    tokens, paths = fields_of.size(said, "prefix_length"), _attentions(reading, config, gated)
    for number, path in enumerate(paths):
        method, values = "prefix", {"tokens": tokens, "position_offset": "none"}
        own: dict[str, Piece] = {}
        if said["use_gating"]:
            method, values, own = _gated(gated, path, tokens, 1 if said["shared_gating"] else 2)
        target = _placed(reading, path, complete(method, values))
        pieces = {
            name: _piece(module, said, target.shape, 2 * number + n, 2 * len(paths)) for n, name in enumerate("KV")
        }
        yield Layer(method, target, pieces | own)


def _gated(
    found: Mapping[str, Module], path: str, tokens: int, count: int
) -> tuple[str, dict[str, Any], dict[str, Piece]]:
    """Method, configuration and pieces of the gates of an attention, one or that of keys and that of values."""
    if path not in found:
        raise TensorAbsent(f"the prefix of `{path}` has no gate, which the configuration says", hint=phrases.AGAIN)
    gate = found[path]
    (_, width) = gate.shape("weight", (2,))
    values = {"tokens": tokens, "width": width, "of": gates.OF, "gates": count}
    return "gated-prefix", values, gates.pieces(gate, count, width, "")


def _attentions(reading: Reading, config: Mapping[str, Any], gated: Collection[str]) -> list[str]:
    """The attentions in the order in which the file has their prefixes."""
    left = config.get("leave_out") or []
    if not isinstance(left, list):
        raise fields_of.misread("leave_out", left, "a list of layers")
    paths = placing.ordered(reading.grouped.attentions or gated) or [one.path for one in _all(reading, "a prefix")]
    return [path for path in paths if int(re.findall(r"\d+", path)[0]) not in left]


def _all(reading: Reading, path: str) -> list[Target]:
    """The base's attentions."""
    from adaptr import targets as places

    model = placing.needed(reading.model, path, "how many heads the values of a prefix are for only the base says")
    return places.resolve(model, "attention", {kinds.ATTENTION})


def _placed(reading: Reading, path: str, values: dict[str, Any]) -> Target:
    found = {one.path: one for one in _all(reading, path)}
    ends = (one for at, one in found.items() if at.endswith(f".{path}") or path.endswith(f".{at}"))
    same = found.get(path) or next(ends, None)
    if same is None:
        raise TargetNotFound(f"the base has no attention `{path}`", hint=phrases.BASE)
    return Target(path, kinds.ATTENTION, same.shape, values)


def _piece(module: Module, said: Mapping[str, Any], shape: tuple[int, ...], number: int, count: int) -> Piece:
    """Keys or values (heads, tokens, width): the `number`th of `count` of them."""
    (heads, width), tokens = shape, fields_of.size(said, "prefix_length")
    whole, laid = (heads, tokens, width), (tokens, count, heads, width)
    if said["flat"]:
        (size,) = module.shape(FLAT, (1,))
        module.require(FLAT, size == count * tokens * heads * width, f"{laid} numbers, as the base has them")
        return Piece(module.keys[FLAT], whole, laid, number, (1, 0, 2))
    rows, _ = module.shape(U, (2,))
    module.require(U, rows == count * heads * width, f"{count * heads * width} rows, as the base has them")
    module.require(TABLE, module.shape(TABLE, (2,))[0] == tokens, f"{tokens} rows, as the configuration says")
    made = partial(
        _made,
        module,
        activation(said["non_linearity"]),
        slice(number * heads * width, (number + 1) * heads * width),
        whole,
    )
    return Piece(module.keys[U], whole, then=made)


def _made(module: Module, name: str, rows: slice, shape: tuple[int, ...], last: Tensor) -> Tensor:
    """What the network makes of its table, these rows of it, in fp64."""
    table, first, b, c = (module.file[module.keys[slot]].double() for slot in (TABLE, W, B, C))
    inner = function(name)(table @ first.T + b)
    heads, tokens, width = shape
    found: Tensor = inner @ last[rows].double().T + c[rows]
    return found.view(tokens, heads, width).transpose(0, 1).to(last.dtype)
