"""From a folder of OpenDelta's to an adapter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import TensorUnknown, phrases, shown
from adaptr.foreign import placing, saving
from adaptr.foreign.draft import Piece
from adaptr.foreign.pieces import assembling
from adaptr.foreign.pieces.module import Layer, Module, Whole, complete
from adaptr.foreign.stored import contents
from adaptr_formats.opendelta import bottlenecks, prefixes
from adaptr_formats.opendelta.named import SLOTS
from adaptr_formats.opendelta.said import Said

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel

#: What is no parameter of a model's own.
_INSERTED = re.compile(
    r"(^|\.)(lora|\w*adapter(_\d+)?|bitfit|soft_prompt_layer|prefix|compactor|\w*reparams?)\.", re.DOTALL
)


def read(weights: Path, config: Mapping[str, Any], base: BaseModel | None) -> Adapter:
    """Raises a `ForeignError`, a `WrongBase`, or `Unsupported` for what adaptr can't do."""
    from adaptr.checkpoint.skeleton import skeleton

    tensors, shapes, _ = contents(weights)
    said = Said(config, None if base is None else skeleton(base))
    modules, own = _grouped(shapes, tensors, said)
    found: list[Layer | Whole] = [*_layers(modules, said)]
    found += [_trained(key, shapes[key], said, base) for key in own]
    return assembling.adapter(found, tensors, str(weights), saving.told({}))


def _grouped(
    shapes: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor], said: Said
) -> tuple[list[Module], list[str]]:
    """The modules that something is in, and parameters of the model itself."""
    groups: dict[str, dict[str, str]] = {}
    own = []
    for name in shapes:
        match = _matched(name, SLOTS[said.kind])
        if match is not None:
            groups.setdefault(match["path"] or "", {})[match["slot"]] = name
        elif _INSERTED.search(name):
            raise TensorUnknown(f"`{shown(name)}` is no tensor of OpenDelta's `{said.kind}`", hint=phrases.AGAIN)
        else:
            own.append(name)
    return [
        Module(at, slots, {slot: shapes[key] for slot, key in slots.items()}, tensors, said.model)
        for at in placing.ordered(groups)
        for slots in [groups[at]]
    ], own


def _matched(name: str, known: Mapping[str, frozenset[str]]) -> re.Match[str] | None:
    for called, slots in known.items():
        key = rf"(?:(?P<path>.+)\.)?{called}\.(?P<slot>{'|'.join(map(re.escape, slots))})"
        match = re.fullmatch(key, name, re.DOTALL)
        if match is not None:
            return match
    return None


def _layers(modules: list[Module], said: Said) -> Iterator[Layer]:
    if said.kind == "prefix":
        yield from prefixes.layers(modules, said)
        return
    made = {
        "lora": _lora, "adapter": bottlenecks.behind, "low_rank_adapter": bottlenecks.of_vectors,
        "parallel_adapter": bottlenecks.beside, "compacter": bottlenecks.hypercomplex, "soft_prompt": _prompt,
    }  # fmt: skip
    for module in modules:
        yield made[said.kind](module, said)


def _trained(name: str, shape: tuple[int, ...], said: Said, base: BaseModel | None) -> Layer | Whole:
    """A parameter of the model: whole, or of `bitfit` what a bias was changed by."""
    from adaptr.foreign.weights import Weights

    path, _, last = name.rpartition(".")
    if said.kind != "bitfit" or last != "bias" or len(shape) != 1:
        return Whole(name, Piece(name, shape))
    known = placing.needed(said.model, name, "a bias is what it was changed by, and the file has what it became")
    plain = Target(path, kinds.LINEAR, (shape[0], 0), complete("bitfit", {}))
    before = Weights(base or known).parameter(name)

    def less(after: Tensor) -> Tensor:
        return (after.double() - before.double()).to(after.dtype)

    return Layer("bitfit", placing.biased(known, plain), {"b": Piece(name, shape, then=less)})


def _lora(module: Module, said: Said) -> Layer:
    (r, into), (out, _) = module.shape("lora_A", (2,)), module.shape("lora_B", (2,))
    module.require("lora_B", module.shapes["lora_B"] == (out, r), f"({out}, {r}), as the other has rank {r}")
    values = {"r": r, "alpha": said.number("lora_alpha", 16), "dropout": said.number("lora_dropout", 0.0)}
    target = placing.agreed(module.model, Target(module.path, kinds.LINEAR, (out, into), complete("lora", values)))
    return Layer("lora", target, {"A": module.piece("lora_A", (r, into)), "B": module.piece("lora_B", (out, r))})


def _prompt(module: Module, said: Said) -> Layer:
    tokens, width = module.shape("soft_embeds", (2,))
    values = complete("prompt", {"tokens": tokens, "rows": tokens, "init": "normal"})
    target = placing.output(module.model, Target("", kinds.MODEL, (width,), values))
    return Layer("prompt", target, {"P": module.piece("soft_embeds", (tokens, width))})
