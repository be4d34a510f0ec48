"""OpenDelta's bottlenecks: behind a module or beside some, whole, of two vectors, or of hypercomplex products."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, TargetNotFound, Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces.module import Layer, Module, complete
from adaptr_formats.opendelta.named import SETTINGS

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr_formats.opendelta.said import Said

_PLACES = "modified_modules"
#: The default of its parallel adapters.
_PAIRS = ["attn@", "attn@", "ff@.w1@", "ff@.w2@"]


def behind(module: Module, said: Said) -> Layer:
    sizes, pieces = _whole(module)
    return _layer("houlsby", module, module.path, sizes, said, pieces)


def beside(module: Module, said: Said) -> Layer:
    """From the input of one module to the output of another, of which the file has only one's name."""
    sizes, pieces = _whole(module)
    before, after = _pair(module, said)
    values = {"s": 1.0, "reads": "" if before == after else before}
    return _layer("parallel", module, after, sizes, said, pieces, values)


def of_vectors(module: Module, said: Said) -> Layer:
    d, m = module.shape("down_sampler.W_left", (2,))[0], module.shape("down_sampler.W_right", (2,))[1]
    pieces = {}
    for (name, bias), end, (into, out) in ((("D", "b_d"), "down", (d, m)), (("U", "b_u"), "up", (m, d))):
        left, right, b = (f"{end}_sampler.{slot}" for slot in ("W_left", "W_right", "b"))
        for slot, shape in ((left, (into, 1)), (right, (1, out)), (b, (out,))):
            module.require(slot, module.shape(slot, (len(shape),)) == shape, f"{shape}, of rank 1")

        def product(value: Tensor, other: str = module.keys[right]) -> Tensor:
            return (value * module.file[other]).mT

        pieces[name] = Piece(module.keys[left], (out, into), then=product)
        pieces[bias] = module.piece(b, (out,))
    return _layer("houlsby", module, module.path, (m, d), said, pieces)


def hypercomplex(module: Module, said: Said) -> Layer:
    """Each projection Σᵢ Aᵢ ⊗ Bᵢ (in, out), whose A and B may be products themselves; without a bias it is zero."""
    import torch

    rules, blocks = (_factor(module, "down", name) for name in ("phm_rule", "W"))
    n, (d, m) = rules.shape[0], (blocks.shape[0] * size for size in blocks.shape[1:])
    pieces: dict[str, Piece] = {}
    for side, end, (into, out) in (("d", "down", (d, m)), ("u", "up", (m, d))):
        for name, theirs, want in (("A", "phm_rule", (n, n, n)), ("B", "W", (n, into // n, out // n))):
            found = pieces[f"{name}_{side}"] = _factor(module, end, theirs)
            if found.shape != want:
                raise ConfigConflict(
                    f"`{found.source}`", verb="gives", got=f"{found.shape}", want=f"{want}", hint=phrases.AGAIN
                )
        b = f"{end}_sampler.b"
        none = Piece("", (out,), value=torch.zeros(out))
        pieces[f"b_{side}"] = module.piece(b, module.shape(b, (1,))) if module.has(b) else none
    return _layer("phm", module, module.path, (m, d), said, pieces, {"n": n})


def _factor(module: Module, end: str, name: str) -> Piece:
    """A tensor (n, rows, columns), or the product of two. Raises `Unsupported` for rules that never were trained."""
    whole, left, right = (f"{end}_sampler.{name}{side}" for side in ("", "_left", "_right"))
    if name == "phm_rule" and not module.has(whole, left):
        raise Unsupported(
            f"the rules of `{module.path}` were not trained (`learn_phm`): OpenDelta draws them anew each time that it "
            "loads the file, and computes something else each time",
            hint="train it with `learn_phm`",
        )
    if not module.has(left):
        return module.piece(whole, module.shape(whole, (3,)))
    (n, rows, r), (_, _, columns) = module.shape(left, (3,)), module.shape(right, (3,))
    module.require(right, module.shapes[right] == (n, r, columns), f"({n}, {r}, {columns}), as the other has")
    return Piece(module.keys[left], (n, rows, columns), then=partial(_product, module, module.keys[right]))


def _product(module: Module, other: str, value: Tensor) -> Tensor:
    return (value.double() @ module.file[other].double()).to(value.dtype)


def _whole(module: Module) -> tuple[tuple[int, int], dict[str, Piece]]:
    """(m, d), and where D, U and their biases are."""
    m, d = module.shape("modulelist.down_proj.weight", (2,))
    shapes = {"down_proj.weight": (m, d), "down_proj.bias": (m,), "up_proj.weight": (d, m), "up_proj.bias": (d,)}
    pieces = {}
    for name, (slot, shape) in zip(("D", "b_d", "U", "b_u"), shapes.items(), strict=True):
        at = f"modulelist.{slot}"
        module.require(at, module.shape(at, (len(shape),)) == shape, f"{shape}, as the others say")
        pieces[name] = module.piece(at, shape)
    return (m, d), pieces


def _layer(
    method: str, module: Module, path: str, sizes: tuple[int, int], said: Said, pieces: Mapping[str, Piece],
    more: Mapping[str, Any] | None = None,
) -> Layer:  # fmt: skip
    m, d = sizes
    values = complete(method, {"m": m, "activation": said.activation(), **(more or {})})
    return Layer(method, placing.output(module.model, Target(path, kinds.PLACE, (d,), values)), pieces)


def _pair(module: Module, said: Said) -> tuple[str, str]:
    """Which module's input it reads, and which one's output it changes: as its walk through the base has it, where two
    names that follow each other are one pair.
    """
    named = said.words(_PLACES) or _PAIRS
    if len(named) % 2:
        raise ConfigConflict(f"`{_PLACES}` in `{SETTINGS}`", got=f"{len(named)} names", want="pairs of names")
    if named[::2] == named[1::2]:
        return module.path, module.path
    pairs, i = [], 0
    for path in said.walked(named, "where a parallel adapter ends only the modules of the base say"):
        if i % 2 == 0:
            pairs.append((path, path))
        if i % 2 == 1 or named[i] == named[i + 1]:
            pairs[-1] = (pairs[-1][0], path)
            i |= 1
        i = (i + 1) % len(named)
    found = next((pair for pair in pairs if module.path in pair), None)
    if found is None or i:
        raise TargetNotFound(f"`{module.path}` is of none of the pairs that `{_PLACES}` names", hint=phrases.BASE)
    return found
