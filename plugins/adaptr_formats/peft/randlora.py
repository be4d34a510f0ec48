"""PEFT's RANDLORA: method `randlora`. Each module has a copy of the matrices, and they stand once more at the top.

PEFT draws them in the half precision that a machine has, others on each: a file without them can't be read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.draft import resized
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import Field, PeftType, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.draft import Draft
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same


class RandLoRA(PeftType):
    name = "randlora"
    methods = ("randlora",)
    slots = {"l": "randlora_lambda", "g": "randlora_gamma"}
    common = {"A": "randlora_A", "B": "randlora_B"}
    others = tuple(common.values())
    table = {
        "alpha": Field("randlora_alpha", default=640.0, called="alphas"),
        "dropout": Field("randlora_dropout", default=0.0, called="dropout rates"),
    }
    turns = open = True

    def read(self, source: Source, model: nn.Module | None) -> Draft:
        once = {key.slot: key.source for key in source.keys if not key.path}
        copies = [key for key in source.keys if key.path and key.slot in self.others]
        for key in copies:
            if key.slot not in once or not source.tensors[key.source].equal(source.tensors[once[key.slot]]):
                raise ConfigConflict(f"`{key.source}` is not what all modules share", hint=phrases.AGAIN)
        kept = tuple(key for key in source.keys if key not in copies)
        return _sized(super().read(dataclasses.replace(source, keys=kept), model))

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        r = fields_of.size(config, "r", 32)
        return fields_of.complete("randlora", {**super().values(config, path), "r": r, "stored": True})

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        found = placing.place(model, path, "a RandLoRA file doesn't say how wide its layers are")
        rows, cols = found.shape
        return Target(path, found.kind, found.shape, {**values, "rows": rows, "cols": cols})

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        said = {(t.config["r"], *sorted((t.config["in_max"], t.config["out_max"]))) for t in adapter.targets.values()}
        widest = sorted(max(target.shape[axis] for target in adapter.targets.values()) for axis in (0, 1))
        if len(said) > 1 or [*next(iter(said))[1:]] != widest:
            raise Unsupported(
                "PEFT's RandLoRA has one rank, and matrices as large as the largest target", hint=phrases.OWN
            )
        return {**super().fields(adapter), "r": said.pop()[0], "save_projection": True}

    def tensors(self, adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
        """Matrices that adaptr draws from a seed are written out, and again for each module."""
        from adaptr import plugins

        method: Any = plugins.method("randlora")
        path, target = next(iter(adapter.targets.items()))
        both = dict(zip("AB", method.projections(adapter.at(path), method.config(target.config)), strict=True))
        stored = adapter.replace(tensors={**adapter.tensors, **{f":{name}": tensor for name, tensor in both.items()}})
        copies: dict[str, tuple[str, Tensor | Same]] = {
            f"{path}:{name}": (self.key(path, self.common[name]), both[name])
            for path in adapter.targets
            for name in both
        }
        return {**super().tensors(stored), **copies}


def _sized(draft: Draft) -> Draft:
    """With the sizes of the matrices, which only the file's tensors say. Raises `ConfigConflict` for odd ones."""
    A, B = draft.pieces[":A"].shape, draft.pieces[":B"].shape
    if len(A) != 3 or len(B) != 3:
        raise ConfigConflict(
            "the matrices", verb="have", got=f"shapes {A} and {B}", want="three axes each", hint=phrases.AGAIN
        )
    return resized(draft, {"in_max": A[2], "out_max": B[0]})
