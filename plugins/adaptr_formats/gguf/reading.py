"""From llama.cpp's LoRA, or aLoRA, to an adapter: ΔW = (alpha / r) B A, each layer's own r, and r for an alpha of 0."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from adaptr.adapter import Target, kinds
from adaptr.errors import (
    AdaptrError,
    ConfigConflict,
    TensorAbsent,
    TensorUnknown,
    TrainedOtherwise,
    Unsupported,
    WeightsIgnored,
    phrases,
    shown,
)  # fmt: skip
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces import assembling
from adaptr.foreign.pieces.module import Layer, complete
from adaptr.foreign.seen import CONFIG, Seen
from adaptr.format.gguf import GgufHeader, open_header
from adaptr.format.gguf import read as read_header
from adaptr.format.header import Header
from adaptr.format.io import TORCH_NAMES, open_tensors
from adaptr.llama_cpp import names, quantised, rows
from adaptr_formats.gguf import facts, told

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel

ALPHA = "adapter.lora.alpha"
_FACTOR = re.compile(r"(?P<name>.+)\.weight\.lora_(?P<side>[ab])", re.DOTALL)
#: What mergekit puts beside, and llama.cpp passes over when it loads an adapter.
_NORM = re.compile(r".*_norm\.weight", re.DOTALL)


def locate(seen: Seen) -> Path | None:
    """The file with an adapter, which a damaged one may be."""
    if not seen.folder:
        return seen.path if seen.path.is_file() and seen.first.startswith(b"GGUF") and _is_adapter(seen.path) else None
    if CONFIG in seen.files or "config.json" in seen.files:
        return None
    inside = [seen.path / name for name in sorted(seen.files) if name.endswith(".gguf")]
    found = [path for path in inside if Seen(path).first.startswith(b"GGUF") and _is_adapter(path)]
    return found[0] if len(found) == 1 else None


def _is_adapter(path: Path) -> bool:
    try:
        said = open_header(path).metadata
    except AdaptrError:  # what is wrong with it is said when it is read
        return True
    return said.get("general.type") == "adapter" and said.get("adapter.type") == "lora"


def read(weights: Path, base: BaseModel | None = None) -> Adapter:
    """The adapter in a file. Without a base, tensors whose rows go by the model's heads raise `ConfigMissing` when they
    are asked for. Raises a `HeaderError`, a `ForeignError`, a `WrongBase`, or `Unsupported`.
    """
    from adaptr.checkpoint.skeleton import skeleton

    header = open_header(weights)
    model = None if base is None else skeleton(base)
    said = facts.of_header(header)
    known = names.of(said.architecture)
    said = facts.agreed(said, None if model is None else facts.of_model(model))
    _warn(header, weights)
    layers = [_layer(header, known, said, name, model) for name in _grouped(header)]
    order = placing.ordered(layer.target.path for layer in layers)
    layers.sort(key=lambda layer: order.index(layer.target.path))
    made = assembling.adapter(layers, open_tensors(weights, _as_bytes), str(weights), told.of(header))
    kept = {**said.as_dict(), "metadata": told.kept(header)}
    return made.replace(base=told.base(header, made.base), foreign={"gguf": kept})


def _as_bytes(file: BinaryIO, size: int) -> Header:
    """The header as tensors are read by it: types that torch doesn't know as bytes."""
    found = read_header(file, size)
    return Header({key: quantised.as_bytes(entry) for key, entry in found.entries.items()}, {}, found.data)


def _grouped(header: GgufHeader) -> list[str]:
    """llama.cpp's names of layers. Raises `TensorAbsent` for one factor alone, `TensorUnknown` for other tensors."""
    found: dict[str, set[str]] = {}
    for key in header.entries:
        pair = _FACTOR.fullmatch(key)
        if pair is not None:
            found.setdefault(pair["name"], set()).add(pair["side"])
        elif _NORM.fullmatch(key) is None:
            raise TensorUnknown(f"`{shown(key)}` is no factor of a LoRA", hint=phrases.AGAIN)
    half = next((name for name, sides in found.items() if len(sides) < 2), None)
    if half is not None:
        raise TensorAbsent(f"`{shown(half)}.weight` has one factor of two", hint=phrases.AGAIN)
    return list(found)


def _layer(
    header: GgufHeader, known: names.Architecture, said: facts.Facts, name: str, model: nn.Module | None
) -> Layer:
    path = known.path(name)
    if not path:
        raise Unsupported(
            f"`{shown(name)}` is no layer of the architecture `{said.architecture}` that adaptr knows",
            hint=f"it knows {names.EMBEDDINGS}, {names.HEAD} and, of a block, {phrases.listed(known.parts)}",
        )
    looked_up = name == names.EMBEDDINGS
    keys = {side: f"{name}.weight.lora_{side}" for side in "ab"}
    a, b = (header.entries[key].shape for key in keys.values())
    a = tuple(reversed(a)) if looked_up else a
    if len(a) != 2 or len(b) != 2 or a[0] != b[1] or not a[0]:
        raise ConfigConflict(
            f"`{shown(name)}`: factors of shapes {a} and {b} don't belong together", hint=phrases.AGAIN
        )
    scaled = {"r": a[0], "alpha": _alpha(header) or float(a[0])}
    invoked = told.invocation(header)
    method = "alora" if invoked else "lora"
    config = complete(method, {**scaled, "dropout": told.dropout(header), **invoked})
    kind = kinds.TABLE if looked_up else kinds.LINEAR if name == names.HEAD else known.kind
    target = placing.agreed(model, Target(path, kind, (b[0], a[1]), config))
    turned = partial(_turned, known.rows, name, b[0], said.heads) if rows.moved(known.rows, name) else None
    made = {
        "A": _piece(header, keys["a"], a, None, order=(1, 0) if looked_up else ()),
        "B": _piece(header, keys["b"], b, turned),
    }
    return Layer(method, target, made)


def _piece(
    header: GgufHeader,
    key: str,
    shape: tuple[int, ...],
    then: Callable[[Tensor], Tensor] | None,
    order: tuple[int, ...] = (),
) -> Piece:
    """The tensor, its quantised blocks as floats. Raises `Unsupported` for whole numbers."""
    dtype = header.entries[key].dtype
    if dtype in TORCH_NAMES:
        if dtype.startswith("I"):
            raise Unsupported(f"`{shown(key)}` is of whole numbers (`{dtype}`)", hint=phrases.AGAIN)
        return Piece(key, shape, order=order, then=then)
    flat = partial(quantised.floats, dtype, tuple(reversed(shape)) if order else shape)

    def both(raw: Tensor) -> Tensor:
        values = flat(raw).permute(order) if order else flat(raw)
        return values if then is None else then(values)

    return Piece(key, shape, then=both)


def _turned(order: str, name: str, count: int, heads: rows.Heads, values: Tensor) -> Tensor:
    """`values` (count, r) with their rows as transformers has them."""
    theirs = rows.order(order, name, count, heads)
    return values[theirs.argsort()]


def _alpha(header: GgufHeader) -> float:
    """0 where there is none. Raises `ConfigConflict` for what is no float."""
    found = header.metadata.get(ALPHA, 0.0)
    if not isinstance(found, float) or not math.isfinite(found):
        raise ConfigConflict(f"`{ALPHA}`", got=shown(repr(found)), want="a float", hint=phrases.AGAIN)
    return found


def _warn(header: GgufHeader, weights: Path) -> None:
    """Say what may be another than it was in training, or is not read."""
    norms = [key for key in header.entries if _NORM.fullmatch(key)]
    if norms:
        warnings.warn(
            f"`{weights.name}` has whole norms ({phrases.listed(norms)}), which llama.cpp passes over, as is done here",
            WeightsIgnored,
            stacklevel=4,
        )
    ranks = {entry.shape[-1] for key, entry in header.entries.items() if key.endswith("lora_b") and entry.shape}
    for said in (_unsaid(header, ranks), quantised.said(header)):
        if said:
            warnings.warn(f"`{weights.name}`: {said}", TrainedOtherwise, stacklevel=4)


def _unsaid(header: GgufHeader, ranks: set[int]) -> str:
    """What llama.cpp's converter leaves out without a word: its files have one alpha for all ranks, and no rsLoRA."""
    if told.ABOUT in header.metadata:
        return ""
    several = f", and its ranks differ ({', '.join(map(str, sorted(ranks)))})" if len(ranks) > 1 else ""
    return (
        f"it is read at the scale alpha / r of each layer, as llama.cpp reads it{several}; its converter leaves out "
        "rsLoRA and patterns of alphas: where it was trained with either, it does something else than in training"
    )
