"""PEFT's LN_TUNING: methods `ln-tuning` and `layernorm`. A file has the norms' own values, not what was added to them.

So it is read as whole parameters, byte for byte and without the base. Differences are written over the base's values,
which are needed for that: `based` makes whole parameters of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from adaptr.adapter import REPLACED
from adaptr.errors import ConfigMissing, TargetNotFound, phrases
from adaptr.foreign import placing, same, saving
from adaptr.foreign.draft import Draft, Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import keys
from adaptr.foreign.peft.types import PeftType

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same

WEIGHT, BIAS = "ln_tuning_layers", "ln_tuning_layers.bias"
#: What the method calls a difference to what a norm calls its value.
NAMES = {"D": "weight", "b": "bias"}


class LnTuning(PeftType):
    name = "ln-tuning"
    methods = ("ln-tuning", "layernorm")
    slots = {"D": WEIGHT, "b": BIAS}
    whole = WEIGHT

    def read(self, source: Source, model: nn.Module | None) -> Draft:
        fields_of.refuse(source.config, self.refused)
        pieces = {}
        for path, slots in keys.grouped(source.keys).items():
            found = keys.chosen(path, slots, {n: slot for n, slot in self.slots.items() if n == "D" or slot in slots})
            for name, key in found.items():
                parameter, shape = f"{path}.{NAMES[name]}", source.shapes[key]
                if model is not None:
                    placing.shaped(model, parameter, shape)
                pieces[f"{parameter}:{REPLACED}"] = Piece(key, shape)
        return Draft(self.methods[0], fields_of.complete("ln-tuning", {}), {}, pieces)

    def replaces(self, adapter: Adapter) -> list[str]:
        """Norms, whose weights have one axis, unless PEFT's configuration has them among its modules to save."""
        saved = fields_of.words(adapter.foreign.get("peft", {}).get("config", {}), "modules_to_save")
        owners = {path: path.rpartition(".")[0] for path in adapter.replaced_paths}
        norms = {owner for path, owner in owners.items() if path == f"{owner}.weight" and _is_vector(adapter, path)}
        return [path for path, owner in owners.items() if owner in norms and not fields_of.named(saved, owner)]

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        owners = {path.rpartition(".")[0] for path in self.replaces(adapter)}
        return {"peft_type": self.peft, "target_modules": placing.ordered(owners)}

    def tensors(self, adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
        if adapter.targets:
            raise ConfigMissing(
                "PEFT's LN tuning has the norms' own values, and this adapter what is added to them",
                hint="give the base with its weights (`--base`)",
            )
        return {}

    def based(self, adapter: Adapter, base: BaseModel) -> Adapter:
        """`adapter` with whole parameters for its differences."""
        own = {p: f"{path}.{NAMES[n]}" for path in adapter.targets for n in adapter.at(path) if (p := f"{path}:{n}")}
        plain, before = saving.plain(adapter), _values(base, own.values())
        tensors = {key: tensor for key, tensor in plain.tensors.items() if key not in own}
        for key, name in own.items():
            W, (path, _, n) = before[name], key.rpartition(":")
            tensors[f"{name}:{REPLACED}"] = (W.double() + plain.at(path)[n].double()).to(W.dtype)
        return plain.replace(targets={}, tensors=tensors)


def _is_vector(adapter: Adapter, path: str) -> bool:
    return same.whole(adapter, f"{path}:{REPLACED}").ndim == 1


def _values(base: BaseModel, names: Iterable[str]) -> dict[str, Tensor]:
    """Parameters of the base. Raises `TargetNotFound` for what it has not, `ConfigMissing` for a base of no values."""
    from torch import nn

    from adaptr.checkpoint.names import Names
    from adaptr.checkpoint.open import open_checkpoint
    from adaptr.checkpoint.reading import whole

    if isinstance(base, nn.Module):
        return {name: placing.parameter(base, name, tuple(base.get_parameter(name).shape)) for name in names}
    known = Names(open_checkpoint(os.fspath(base)))
    found = {name: known.find(name) for name in names}
    gone = next((name for name, stored in found.items() if stored is None), None)
    if gone is not None:
        raise TargetNotFound(f"the base has no parameter `{gone}`", hint=phrases.BASE)
    return {name: whole(stored) for name, stored in found.items() if stored is not None}
