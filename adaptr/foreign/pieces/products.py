"""LoHa and LoKr as LyCORIS writes them, with alphas beside them. PEFT's tensors are named alike and laid out otherwise.

Scales: alpha / r, of LoKr only where one of its factors is itself a product, else 1 whatever its alpha says. Factors of
convolutions are flattened to (r, in*k), of which only the base knows the kernel, or go around a core (r, r, *k).
"""

from __future__ import annotations

import math
from typing import Any

from adaptr.adapter import Target, kinds
from adaptr.errors import Unsupported
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces import alphas
from adaptr.foreign.pieces.low_rank import MAGNITUDE, PEFT_MAGNITUDE
from adaptr.foreign.pieces.module import ALPHA, Layer, Module, complete

#: The largest alpha that may stand for a rank.
MOST = 1 << 20
LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")
LOKR = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")


def loha(module: Module) -> Layer:
    """The method `loha`."""
    _require_plain(module, "LoHa")
    r = module.shape("hada_w1_b", (2,))[0]
    values = complete("loha", {"r": r, **module.scaled(r), "tucker": module.has("hada_t1", "hada_t2")})
    return _hada_cored(module, values) if values["tucker"] else _hada_flat(module, values)


def _hada_flat(module: Module, values: dict[str, Any]) -> Layer:
    out, width = module.shape("hada_w1_a", (2,))[0], module.shape("hada_w1_b", (2,))[1]
    target = placing.flattened(module.model, Target(module.path, kinds.LINEAR, (out, width), values))
    pieces = {}
    for side in ("w1", "w2"):
        pieces[f"{side}_a"] = module.piece(f"hada_{side}_a", module.shape(f"hada_{side}_a", (2,)))
        rows, columns = module.shape(f"hada_{side}_b", (2,))
        module.require(f"hada_{side}_b", columns == width, f"{width} columns, as the other factor has")
        pieces[f"{side}_b"] = module.piece(f"hada_{side}_b", (rows, *target.shape[1:]))
    return Layer("loha", target, pieces)


def _hada_cored(module: Module, values: dict[str, Any]) -> Layer:
    kernel = module.shape("hada_t1", (3, 4, 5))[2:]
    shape = (module.shape("hada_w1_a", (2,))[1], module.shape("hada_w1_b", (2,))[1], *kernel)
    target = placing.agreed(module.model, Target(module.path, kinds.convolution(len(kernel)), shape, values))
    pieces = {}
    for side in ("1", "2"):
        rank, rows = module.shape(f"hada_w{side}_a", (2,))
        pieces[f"w{side}_a"] = module.piece(f"hada_w{side}_a", (rows, rank), order=(1, 0))
        pieces[f"t{side}"] = module.piece(f"hada_t{side}", module.shape(f"hada_t{side}", (3, 4, 5)))
        pieces[f"d{side}"] = module.piece(f"hada_w{side}_b", module.shape(f"hada_w{side}_b", (2,)))
    return Layer("loha", target, pieces)


def lokr(module: Module) -> Layer:
    """The method `lokr`."""
    _require_plain(module, "LoKr")
    first, second = module.has("lokr_w1"), module.has("lokr_w2")
    left, (a, c) = _left(module, first)
    right, (b, d), kernel = _right(module, second, module.has("lokr_t2"))
    sizes = {"a": a, "b": b, "c": c, "d": d, "w1_full": first, "w2_full": second, "tucker": "t2" in right}
    scale = _scale(module, first, second)
    values = complete("lokr", {**scale, **sizes})
    kind = kinds.convolution(len(kernel)) if kernel else kinds.LINEAR
    target = Target(module.path, kind, (a * b, c * d, *kernel), values)
    target = _flat(module, target) if "w2_b" in right else placing.agreed(module.model, target)
    if "w2_b" in right:
        right["w2_b"] = module.piece("lokr_w2_b", (scale["r"], target.config["d"], *target.shape[2:]))
    return Layer("lokr", target, {**left, **right})


def _scale(module: Module, first: bool, second: bool) -> dict[str, Any]:
    """Rank and alpha. Two full factors have the scale 1: both are what their alpha says, which all ignore."""
    if first and second:
        found = alphas.number(module.file, module.keys[ALPHA]) if module.has(ALPHA) else 1.0
        rank = int(found) if found == int(found) and 0 < found < MOST else 1
        return {"r": rank, "alpha": float(rank)}
    rank = module.shape("lokr_w1_b" if second else "lokr_w2_b", (2,))[0]
    return {"r": rank, **module.scaled(rank)}


def _left(module: Module, full: bool) -> tuple[dict[str, Piece], tuple[int, int]]:
    """The first factor's tensors, and its (a, c)."""
    names = ("w1",) if full else ("w1_a", "w1_b")
    shapes = {name: module.shape(f"lokr_{name}", (2,)) for name in names}
    pieces = {name: module.piece(f"lokr_{name}", shape) for name, shape in shapes.items()}
    return pieces, (shapes[names[0]][0], shapes[names[-1]][1])


def _right(module: Module, full: bool, cored: bool) -> tuple[dict[str, Piece], tuple[int, int], tuple[int, ...]]:
    """The second factor's tensors, its (b, d), and the kernel where the tensors say it."""
    if full:
        shape = module.shape("lokr_w2", (2, 3, 4, 5))
        return {"w2": module.piece("lokr_w2", shape)}, (shape[0], shape[1]), shape[2:]
    one, other = module.shape("lokr_w2_a", (2,)), module.shape("lokr_w2_b", (2,))
    if not cored:
        pieces = {"w2_a": module.piece("lokr_w2_a", one), "w2_b": module.piece("lokr_w2_b", other)}
        return pieces, (one[0], other[1]), ()
    core = module.shape("lokr_t2", (3, 4, 5))
    pieces = {
        "w2_a": module.piece("lokr_w2_a", one[::-1], order=(1, 0)),
        "t2": module.piece("lokr_t2", core),
        "d2": module.piece("lokr_w2_b", other),
    }
    return pieces, (one[1], other[1]), core[2:]


def _flat(module: Module, plain: Target) -> Target:
    """A linear layer, or a convolution whose second factor is flattened to (r, d*k), where the base says so."""
    found = placing.flattened(module.model, plain)
    inner, columns = math.prod(found.shape[2:]), plain.config["d"]
    module.require("lokr_w2_b", columns % inner == 0, f"columns for each of the kernel's {inner}")
    return Target(module.path, found.kind, found.shape, {**plain.config, "d": columns // inner})


def _require_plain(module: Module, called: str) -> None:
    """Raises `Unsupported` for magnitudes over what is no LoRA."""
    slot = next((slot for slot in (MAGNITUDE, PEFT_MAGNITUDE) if module.has(slot)), "")
    if slot:
        raise Unsupported(
            f"`{module.keys[slot]}` holds magnitudes over a {called}, and adaptr's `dora` has them over a LoRA",
            hint="merge it into its base with the tool that wrote it, and extract the difference (`adaptr extract`)",
        )
