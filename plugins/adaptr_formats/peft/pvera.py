"""PEFT's PVERA: method `pvera`. The projections must be in the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
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


class PVeRA(PeftType):
    name = "pvera"
    methods = ("pvera",)
    slots = {"d": "pvera_lambda_d", "b": "pvera_lambda_b"}
    common = {"A": "pvera_A", "B": "pvera_B"}
    table = {
        "r": Field("r", int, 256, called="ranks"),
        "dropout": Field("pvera_dropout", default=0.0, called="dropout rates"),
        "d_initial": Field("d_initial", default=0.1),
    }
    refused = {"sample_at_inference": "what it computes is drawn anew in each call, and has no weight"}
    turns = open = True

    def read(self, source: Source, model: nn.Module | None) -> Draft:
        draft = super().read(source, model)
        A, B = draft.pieces[":A"].shape, draft.pieces[":B"].shape
        wide = [path for path, t in draft.targets.items() if t.shape[0] > B[0] or t.shape[1] > A[-1]]
        if len(A) != 2 or len(B) != 2 or wide:
            raise ConfigConflict(
                f"the projections{f' for `{wide[0]}`' if wide else ''}",
                verb="have",
                got=f"shapes {A} and {B}",
                want="two axes each, as large as the largest layer",
                hint=phrases.AGAIN,
            )
        return resized(draft, {"in_max": A[1], "out_max": B[0]})

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        return fields_of.complete("pvera", {**super().values(config, path), "stored": True})

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        placing.needed(model, path, "a PVeRA file doesn't say how wide its layers are")
        found = placing.agreed(model, Target(path, kinds.LINEAR, (shapes["b"][0], 0)))
        return Target(path, found.kind, found.shape, {**values, "width": found.shape[1]})

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        said = {(t.config["in_max"], t.config["out_max"]) for t in adapter.targets.values()}
        widest = tuple(max(target.shape[axis] for target in adapter.targets.values()) for axis in (1, 0))
        if said != {widest}:
            raise Unsupported("PEFT's PVeRA has projections as large as the largest target", hint=phrases.OWN)
        return {**super().fields(adapter), "save_projection": True}

    def tensors(self, adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
        """Projections that adaptr draws from a seed are written out."""
        from adaptr import plugins

        method: Any = plugins.method("pvera")
        path, target = next(iter(adapter.targets.items()))
        A, B = method.projections(adapter.at(path), method.config(target.config))
        return super().tensors(adapter.replace(tensors={**adapter.tensors, ":A": A, ":B": B}))
