"""PEFT's PEANUT: method `peanut`. A file doesn't say how wide its layers are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import Field, PeftType, Shapes
from adaptr_plugins.transform.peanut import DEEPEST

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source

ENCODERS, DECODERS = "peanut_encoders", "peanut_decoders"
#: What PEFT calls the non-linearities: transformers' names.
ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_new", "silu": "silu", "swish": "silu", "tanh": "tanh"}


class PEANuT(PeftType):
    name = "peanut"
    methods = ("peanut",)
    slots = {
        "A": "peanut_A",
        "B": "peanut_B",
        **{f"E{n}": f"{ENCODERS}.{n}" for n in range(DEEPEST)},
        **{f"D{n}": f"{DECODERS}.{n}" for n in range(DEEPEST)},
    }
    weight = frozenset(slots.values())
    table = {
        "r": Field("r", int, 32, called="ranks"),
        "depth": Field("depth", int, 0, called="depths"),
        "s": Field("scaling", default=1.0, called="scales"),
    }
    open = True

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        said = fields_of.text(config, "act_fn") or "relu"
        if said not in ACTIVATIONS:
            raise Unsupported(
                "`act_fn`",
                got=f"`{said[:20]}`",
                want=f"one of {', '.join(ACTIVATIONS)}",
                hint="merge it with PEFT, and `adaptr extract` from the result",
            )
        return {**super().values(config, path), "activation": ACTIVATIONS[said]}

    def wanted(self, values: Mapping[str, Any]) -> Mapping[str, str]:
        if values["depth"] > DEEPEST:
            raise Unsupported("`depth`", got=values["depth"], want=f"at most {DEEPEST}", hint="merge it with PEFT")
        there = [f"{letter}{n}" for letter in ("E", "D") for n in range(values["depth"])]
        return {name: self.slots[name] for name in ("A", "B", *there)}

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        placing.needed(model, path, "a PEANuT file doesn't say how wide its layers are")
        out, r = placing.axes(path, self.slots["B"], shapes["B"], 2)
        if shapes["A"] != (r, out):
            raise ConfigConflict(
                f"`{path}`: `peanut_A`", verb="has", got=f"shape {shapes['A']}", want=f"{(r, out)}", hint=phrases.AGAIN
            )
        return placing.agreed(model, Target(path, kinds.LINEAR, (out, 0), values))

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        used = {target.config["activation"] for target in adapter.targets.values()}
        if len(used) > 1 or any(target.kind != kinds.LINEAR for target in adapter.targets.values()):
            raise Unsupported("PEFT's PEANuT has one non-linearity, and works on linear layers alone", hint=phrases.OWN)
        return {**super().fields(adapter), "act_fn": used.pop()}
