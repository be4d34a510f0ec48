"""PEFT's GLORA: method `glora`. What a layer has none of is a buffer of zeros in its files, written and not kept.

A layer without a bias has neither c nor D nor E, whatever the configuration says of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.draft import Draft, Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import PeftType, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same

#: Our field to theirs, what it can be, and the terms it is of, by their letters.
FIELDS = {
    "weights": ("config_A_B", ("lora", "vector", "constant", "none"), "AB"),
    "inputs": ("config_C", ("lora", "vector", "none"), "C"),
    "biases": ("config_D_E", ("vector", "constant", "none"), "DE"),
}
#: How a term is kept: the ends of our names to theirs.
FORMS = {"lora": {"d": "Xd", "u": "Xu"}, "vector": {"v": "X"}, "constant": {"c": "X"}, "none": {}}
ZEROS = "zeros"


class Glora(PeftType):
    name = "glora"
    methods = ("glora",)
    slots = {
        f"{letter}{end}": f"glora_{letter}.{slot}"
        for _, forms, letters in FIELDS.values() for letter in letters
        for form in forms for end, slot in FORMS[form].items()
    }  # fmt: skip
    others = tuple(f"glora_{letter}.{ZEROS}" for letter in "ABCDE")
    open = True
    only = {"side": "out", "alpha": 0.0}

    def read(self, source: Source, model: nn.Module | None) -> Draft:
        """Raises `ConfigConflict` where a buffer of zeros is none."""
        spare = [key for key in source.keys if key.slot.endswith(f".{ZEROS}")]
        wrong = next((key.source for key in spare if bool(source.tensors[key.source].any())), None)
        if wrong:
            raise ConfigConflict(f"`{wrong}`", verb="has", got="numbers", want="zeros alone", hint=phrases.AGAIN)
        left = tuple(key for key in source.keys if key not in spare)
        return super().read(dataclasses.replace(source, keys=left), model)

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        found: dict[str, Any] = {"r": fields_of.size(config, "r", 8)}
        for name, (theirs, forms, _) in FIELDS.items():
            said = config.get(theirs, "constant" if name == "biases" else "lora")
            if said not in forms:
                raise fields_of.misread(theirs, said, " or ".join(forms))
            found[name] = said
        return fields_of.complete("glora", found)

    def form(self, slots: Mapping[str, str]) -> dict[str, Any]:
        there = {slot[len("glora_")] for slot in slots}
        return {name: "none" for name, (_, _, letters) in FIELDS.items() if not there & set(letters)}

    def wanted(self, values: Mapping[str, Any]) -> Mapping[str, str]:
        return {
            f"{letter}{end}": f"glora_{letter}.{slot}"
            for name, (_, _, letters) in FIELDS.items() for letter in letters
            for end, slot in FORMS[values[name]].items()
        }  # fmt: skip

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        """Sides that no tensor has come from the base."""
        out = next((shapes[name][0] for name in ("Ad", "Av", "Dv") if name in shapes), 0)
        wide = shapes["Au"][-1] if "Au" in shapes else next((shapes[n][0] for n in ("Cd", "Cv") if n in shapes), 0)
        if not (out and wide):
            placing.needed(model, path, "this GLoRA file doesn't say how large its layers are")
        return placing.agreed(model, Target(path, kinds.LINEAR, (out, wide), values))

    def piece(self, target: Target, name: str, key: str, shape: tuple[int, ...]) -> Piece:
        return Piece(key, shape[:1] if name[1] in "vc" or name == "Cu" else shape)

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        configs = [target.config for target in adapter.targets.values()]
        said = {name: {config[name] for config in configs} for name in ("r", *FIELDS)}
        for name in ("inputs", "biases"):  # what a layer without a bias has says nothing
            said[name] = said[name] - {"none"} or {"none"}
        linear = all(target.kind == kinds.LINEAR for target in adapter.targets.values())
        if not linear or any(len(found) > 1 for found in said.values()):
            raise Unsupported(
                "PEFT's GLoRA has one rank and one form for all targets, and works on linear layers alone",
                hint=phrases.OWN,
            )
        config = {theirs: said[name].pop() for name, (theirs, _, _) in FIELDS.items()}
        return {**super().fields(adapter), "r": said["r"].pop(), **config}

    def tensors(self, adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
        import torch

        made = super().tensors(adapter)
        for path, target in adapter.targets.items():
            out, wide = target.shape
            sizes = {"weights": (out, wide), "inputs": (wide, 1), "biases": (out,)}
            for name, (_, _, letters) in FIELDS.items():
                for letter in letters if target.config[name] == "none" else "":
                    slot = f"glora_{letter}.{ZEROS}"
                    made[f"{path}:{slot}"] = self.key(path, slot), torch.zeros(sizes[name])
        return made

    def laid(self, target: Target, name: str, found: Same) -> Tensor | Same:
        column = name in {"Av", "Bv", "Cv", "Cu"}
        return found.reshape((*found.shape, 1)) if column else found
