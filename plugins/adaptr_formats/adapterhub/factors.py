"""AdapterHub's LoRA, and what is one there: (IA)3 scales by `lora_B`, VeRA has its two matrices between shared ones.

- (IA)3's vector is multiplied by its alpha; of a fused layer all of it is, the parts without a vector too.
- VeRA's `vera_D` (r, r) and `vera_B` (out, out) are whole matrices, trained as such. What it makes is a LoRA.
- DoRA divides by the norm of W + B A, without the scale that it adds B A with, and multiplies the bias too. adaptr's
  has the scale in the norm and leaves the bias. So magnitudes are converted with the base's weight, and a bias is a
  whole parameter.
- A gate takes the scale's place, as in UniPELT's code: alpha does nothing beside it. Of a layer that is several, each
  has a gate of its own.
- Before `adapters` 1.1 nothing was scaled; newer ones read such files with `alpha` = `r`, as they were trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adaptr import roles
from adaptr.adapter import Target, kinds
from adaptr.errors import Unsupported
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import merged
from adaptr.foreign.pieces.module import Layer, Module, Whole, complete
from adaptr_formats.adapterhub import gates, keys
from adaptr_formats.adapterhub.config import LORA, asked, conflict

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr_formats.adapterhub.reading import Reading

A, B, MIDDLE, LAST, MAGNITUDE = "lora_A", "lora_B", "vera_D", "vera_B", "m.weight"
#: What decides what a LoRA computes, with the values that files of older versions mean.
_DEFAULTS = {
    "r": 8, "alpha": 8, "composition_mode": "add", "attn_matrices": ["q", "v"], "use_gating": False,
    "use_dora": False, "vera_d": None, "vera_b": None,
}  # fmt: skip
_PARTS = "qkv"


def read(reading: Reading, config: Mapping[str, Any]) -> Iterator[Layer | Whole]:
    said = asked(LORA, config, _DEFAULTS)
    if reading.said.misscaled:
        said["alpha"] = said["r"]
    if said["use_gating"] and (said["composition_mode"] == "scale" or said["use_dora"]):
        what = "(IA)3" if said["composition_mode"] == "scale" else "DoRA"
        raise Unsupported(
            f"its {what} has a gate, which weighs it for each text by what it reads, and adaptr has no method for that",
            hint="train it without (`use_gating=False`)",
        )
    shared = reading.modules(keys.SHARED)
    for module in reading.modules(keys.LORAS):
        if said["composition_mode"] == "scale":
            yield _scaled(reading, module, said)
        elif module.has(MIDDLE):
            yield from _added(reading, _vera(module, shared), said, config)
        else:
            yield from _added(reading, _plain(module), said, config)


class Factors:
    """`a` (r, in) and `b` (out, r) of a module, as pieces of the file."""

    def __init__(self, module: Module, a: Piece, b: Piece) -> None:
        self.module, self.a, self.b = module, a, b


def _plain(module: Module) -> Factors:
    return Factors(module, module.piece(A, module.shape(A, (2,))), module.piece(B, module.shape(B, (2,))))


def _vera(module: Module, shared: list[Module]) -> Factors:
    """B' = `vera_B` B `vera_D`, and A."""
    if len(shared) != 1:
        raise conflict(f"the file has {len(shared)} pairs of shared matrices, where VeRA has one")
    (pair,) = shared
    (r, into), (out, _) = pair.shape(A, (2,)), pair.shape(B, (2,))
    pair.require(B, pair.shapes[B] == (out, r), f"({out}, {r}), as `{A}` has rank {r}")
    for slot, size in ((MIDDLE, r), (LAST, out)):
        module.require(slot, module.shape(slot, (2,)) == (size, size), f"({size}, {size})")

    def product(last: Tensor) -> Tensor:
        made = last.double() @ pair.file[pair.keys[B]].double() @ module.file[module.keys[MIDDLE]].double()
        return made.to(last.dtype)

    return Factors(module, pair.piece(A, (r, into)), Piece(module.keys[LAST], (out, r), then=product))


def _added(
    reading: Reading, factors: Factors, said: Mapping[str, Any], config: Mapping[str, Any]
) -> Iterator[Layer | Whole]:
    module, r = factors.module, fields_of.size(said, "r")
    values: dict[str, Any] = {"r": r, "alpha": fields_of.number(said, "alpha")}
    values["dropout"] = fields_of.number(config, "dropout", 0.0)
    (rank, into), (out, inner) = factors.a.shape, factors.b.shape
    parts = _fused(module.path, said)
    module.require(A if module.has(A) else MIDDLE, inner == r, f"rank {r}, as the configuration says")
    if parts and factors.b.then is None and not said["use_dora"]:
        pieces = merged.pieces(
            parts, module.path, {"A": module.keys[A], "B": module.keys[B]}, {"A": (rank, into), "B": (out, r, 1)}, rank
        )
        values = merged.values(parts, values)
    elif parts or rank != r:
        raise conflict(f"`{module.path}` has factors of rank {rank}, and the configuration says {r}")
    else:
        pieces = {"A": factors.a, "B": factors.b}
    out = pieces["B"].shape[0]
    if said["use_gating"]:
        count = sum(parts) or 1
        values, pieces = {**values, "of": gates.OF, "gates": count}, {**pieces, **gates.pieces(module, count, into)}
    method = "dora" if said["use_dora"] else "gated-lora" if said["use_gating"] else "lora"
    kind = kinds.LINEAR_T if reading.said.model_type in roles.CONV1D_MODELS else kinds.LINEAR
    target = Target(module.path, kind, (out, into), complete(method, values))
    target = placing.agreed(reading.model, target)
    if method != "dora":
        yield Layer(method, target, pieces)
        return
    yield from _directed(reading, module, target, pieces)


def _fused(path: str, said: Mapping[str, Any]) -> tuple[bool, ...]:
    """Of a layer that is queries, keys and values in one, which have factors."""
    if not roles.has(path, "attn.qkv"):
        return ()
    chosen = fields_of.words(said, "attn_matrices")
    return tuple(part in chosen for part in _PARTS)


def _directed(reading: Reading, module: Module, target: Target, pieces: dict[str, Piece]) -> Iterator[Layer | Whole]:
    """The method `dora`, and the base's bias where it has one, as the tool multiplies it."""
    weights = reading.weights(f"{target.path}: AdapterHub's DoRA is another one for each base")
    out, scale = target.shape[0], target.config["alpha"] / target.config["r"]
    module.require(MAGNITUDE, module.shape(MAGNITUDE, (2,)) == (out, 1), f"({out}, 1), one for each output")
    if target.kind != kinds.LINEAR:
        raise Unsupported(f"`{target.path}` is no linear layer, of which alone AdapterHub makes a DoRA")

    def norm(factor: float) -> Tensor:
        a, b = (pieces[name].take(module.file[pieces[name].source]).double() for name in ("A", "B"))
        found: Tensor = (weights.weight(target.path).double() + factor * (b @ a)).norm(dim=1)
        return found

    def magnitudes(m: Tensor) -> Tensor:
        return (m.double().flatten() * norm(scale) / norm(1.0)).to(m.dtype)

    yield Layer("dora", target, {**pieces, "m": Piece(module.keys[MAGNITUDE], (out,), then=magnitudes)})
    if not reading.has(f"{target.path}.bias"):
        return
    bias = weights.parameter(f"{target.path}.bias")

    def scaled(m: Tensor) -> Tensor:
        return (bias.double() * m.double().flatten() / norm(1.0)).to(bias.dtype)

    yield Whole(f"{target.path}.bias", Piece(module.keys[MAGNITUDE], (out,), then=scaled))


def _scaled(reading: Reading, module: Module, said: Mapping[str, Any]) -> Layer:
    """The method `ia3`, of outputs."""
    (rows, one), alpha = module.shape(B, (2,)), fields_of.number(said, "alpha")
    module.require(B, one == 1, f"({rows}, 1), one for each output")
    parts = _fused(module.path, said)
    out = rows // sum(parts) * len(parts) if any(parts) else rows

    def gains(vector: Tensor) -> Tensor:
        whole = _filled(parts, vector.flatten()) if parts else vector.flatten()
        return (whole.double() * alpha).to(vector.dtype)

    kind = kinds.LINEAR_T if reading.said.model_type in roles.CONV1D_MODELS else kinds.LINEAR
    target = placing.agreed(reading.model, Target(module.path, kind, (out, 0), complete("ia3", {"side": "out"})))
    plain = alpha == 1 and not parts
    return Layer("ia3", target, {"l": Piece(module.keys[B], (out,), then=None if plain else gains)})


def _filled(parts: tuple[bool, ...], found: Tensor) -> Tensor:
    """With ones for the parts that have none."""
    import torch

    rows = iter(found.chunk(sum(parts)))
    size = len(found) // sum(parts)
    return torch.cat([next(rows) if on else found.new_ones(size) for on in parts])
