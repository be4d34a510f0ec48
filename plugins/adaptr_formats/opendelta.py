"""OpenDelta's folders: `config.json` with its `delta_type`, and `pytorch_model.bin` of all that was trained, at the
model's own paths.

Its lora, adapter, low-rank adapter (rank 1, as its product of W_left and W_right is one by elements), bitfit and soft
prompt are read; trained parameters of the model itself come along. Its adapters are `houlsby`, at whichever module they
are. Its prefixes, Compacters and parallel adapters are not: where they begin and end its code alone says. Of bitfit no
genuine file was at hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, ForeignError, TensorUnknown, Unsupported, phrases, shown
from adaptr.foreign import NOTHING, Format, Supplied

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.pieces.module import Layer, Module, Whole
    from adaptr.foreign.seen import Seen

SETTINGS, WEIGHTS = "config.json", "pytorch_model.bin"
#: What it calls what is inserted, and that within the module that it is at.
_SLOTS = {
    "lora": ("lora", frozenset({"lora_A", "lora_B"})),
    "adapter": (
        "adapter",
        frozenset(f"modulelist.{end}_proj.{name}" for end in ("down", "up") for name in ("weight", "bias")),
    ),
    "low_rank_adapter": (
        "low_rank_adapter",
        frozenset(f"{end}_sampler.{name}" for end in ("down", "up") for name in ("W_left", "W_right", "b")),
    ),
    "soft_prompt": ("soft_prompt_layer", frozenset({"soft_embeds"})),
    "bitfit": ("", frozenset()),
}
_ACTIVATIONS = {
    "relu": "relu", "tanh": "tanh", "swish": "silu", "silu": "silu", "gelu_new": "gelu_new", "gelu_orig": "gelu",
    "gelu": "gelu",
}  # fmt: skip


class Opendelta(Format):
    name = "opendelta"
    tool = "OpenDelta"
    called = "a delta of OpenDelta"

    def locate(self, seen: Seen) -> Path | None:
        """A folder that looks as a model's does, and whose configuration says that it is none."""
        if not {SETTINGS, WEIGHTS} <= seen.files or "opendelta_version" not in _said(seen.path):
            return None
        return seen.path / WEIGHTS

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr.checkpoint.skeleton import skeleton
        from adaptr.foreign import placing, saving
        from adaptr.foreign.pieces import assembling
        from adaptr.foreign.pieces.module import Module
        from adaptr.foreign.stored import contents

        weights = self.weights(path)
        tensors, shapes, _ = contents(weights)
        model = None if base is None else skeleton(base)
        reading = Reading(_said(weights.parent), base, model)
        groups, own = _grouped(shapes, reading.kind)
        found: list[Layer | Whole] = []
        for at in placing.ordered(groups):
            slots = groups[at]
            module = Module(at, slots, {slot: shapes[key] for slot, key in slots.items()}, tensors, model)
            found.append(reading.layer(module))
        found += [reading.trained(key, shapes[key]) for key in own]
        return assembling.adapter(found, tensors, str(weights), saving.told({}))


def _said(folder: Path) -> Mapping[str, Any]:
    """Its configuration; that of another sort of folder may be anything."""
    from adaptr.untrusted import json_file

    try:
        return json_file(folder / SETTINGS, ForeignError, 1 << 24)
    except ForeignError:
        return {}


def _grouped(keys: Mapping[str, tuple[int, ...]], kind: str) -> tuple[dict[str, dict[str, str]], list[str]]:
    """({path of a module: {slot: key}}, parameters of the model itself)."""
    called, slots = _SLOTS[kind]
    key = re.compile(rf"(?:(?P<path>.+)\.)?{called}\.(?P<slot>{'|'.join(map(re.escape, slots))})", re.DOTALL)
    groups: dict[str, dict[str, str]] = {}
    own = []
    for name in keys:
        match = key.fullmatch(name) if slots else None
        if match is not None:
            groups.setdefault(match["path"] or "", {})[match["slot"]] = name
        elif re.search(r"(^|\.)(lora|\w*adapter|bitfit|soft_prompt_layer|prefix|\w*_reparams?)\.", name, re.DOTALL):
            raise TensorUnknown(f"`{shown(name)}` is no tensor of OpenDelta's `{kind}`", hint=phrases.AGAIN)
        else:
            own.append(name)
    return groups, own


@dataclass(frozen=True)
class Reading:
    said: Mapping[str, Any]
    base: BaseModel | None
    model: nn.Module | None

    @property
    def kind(self) -> str:
        found = self.said.get("delta_type")
        if not isinstance(found, str) or found not in _SLOTS:
            raise Unsupported(
                f"adaptr can't read OpenDelta's `{shown(str(found))}`",
                hint=f"it reads {phrases.listed(_SLOTS)}; keep it where it was trained",
            )
        return found

    def layer(self, module: Module) -> Layer:
        made: Layer = {
            "lora": self._lora, "adapter": self._adapter, "low_rank_adapter": self._low_rank,
            "soft_prompt": self._prompt,
        }[self.kind](module)  # fmt: skip
        return made

    def trained(self, name: str, shape: tuple[int, ...]) -> Layer | Whole:
        """A parameter of the model: whole, or of `bitfit` what a bias was changed by."""
        from adaptr.foreign import placing
        from adaptr.foreign.draft import Piece
        from adaptr.foreign.pieces.module import Layer, Whole, complete
        from adaptr.foreign.weights import Weights

        path, _, last = name.rpartition(".")
        if self.kind != "bitfit" or last != "bias" or len(shape) != 1:
            return Whole(name, Piece(name, shape))
        known = placing.needed(self.model, name, "a bias is what it was changed by, and the file has what it became")
        plain = Target(path, kinds.LINEAR, (shape[0], 0), complete("bitfit", {}))
        before = Weights(self.base or known).parameter(name)

        def less(after: Tensor) -> Tensor:
            return (after.double() - before.double()).to(after.dtype)

        return Layer("bitfit", placing.biased(known, plain), {"b": Piece(name, shape, then=less)})

    def _lora(self, module: Module) -> Layer:
        from adaptr.foreign import placing
        from adaptr.foreign.pieces.module import Layer, complete

        (r, into), (out, _) = module.shape("lora_A", (2,)), module.shape("lora_B", (2,))
        module.require("lora_B", module.shapes["lora_B"] == (out, r), f"({out}, {r}), as the other has rank {r}")
        said = {"r": r, "alpha": self._number("lora_alpha", 16), "dropout": self._number("lora_dropout", 0.0)}
        target = placing.agreed(module.model, Target(module.path, kinds.LINEAR, (out, into), complete("lora", said)))
        return Layer("lora", target, {"A": module.piece("lora_A", (r, into)), "B": module.piece("lora_B", (out, r))})

    def _adapter(self, module: Module) -> Layer:
        m, d = module.shape("modulelist.down_proj.weight", (2,))
        shapes = {"down_proj.weight": (m, d), "down_proj.bias": (m,), "up_proj.weight": (d, m), "up_proj.bias": (d,)}
        pieces = {}
        for name, (slot, shape) in zip(("D", "b_d", "U", "b_u"), shapes.items(), strict=True):
            at = f"modulelist.{slot}"
            module.require(at, module.shape(at, (len(shape),)) == shape, f"{shape}, as the others say")
            pieces[name] = module.piece(at, shape)
        return self._bottleneck(module, (m, d), pieces)

    def _low_rank(self, module: Module) -> Layer:
        from adaptr.foreign.draft import Piece

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
        return self._bottleneck(module, (m, d), pieces)

    def _bottleneck(self, module: Module, sizes: tuple[int, int], pieces: Mapping[str, Any]) -> Layer:
        from adaptr.foreign import placing
        from adaptr.foreign.pieces.module import Layer, complete

        name = str(self.said.get("non_linearity") or "gelu_new").lower()
        if name not in _ACTIVATIONS:
            raise Unsupported(
                f"the non-linearity is `{shown(name)}`, which adaptr's bottlenecks don't have",
                hint=f"they have {phrases.listed(sorted(set(_ACTIVATIONS.values())))}",
            )
        values = complete("houlsby", {"m": sizes[0], "activation": _ACTIVATIONS[name]})
        target = placing.output(module.model, Target(module.path, kinds.PLACE, (sizes[1],), values))
        return Layer("houlsby", target, pieces)

    def _prompt(self, module: Module) -> Layer:
        from adaptr.foreign import placing
        from adaptr.foreign.pieces.module import Layer, complete

        tokens, width = module.shape("soft_embeds", (2,))
        values = complete("prompt", {"tokens": tokens, "rows": tokens, "init": "normal"})
        target = placing.output(module.model, Target("", kinds.MODEL, (width,), values))
        return Layer("prompt", target, {"P": module.piece("soft_embeds", (tokens, width))})

    def _number(self, name: str, default: float) -> float:
        value = self.said.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
            raise ConfigConflict(f"`{name}` in `{SETTINGS}`", got=f"`{shown(str(value))}`", want="a number")
        return float(value)
