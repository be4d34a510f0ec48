"""PEFT's HRA: method `hra`. A file has its columns alone: the base says what outputs and what kernel a layer has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import Field, PeftType, Shapes

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source


class Hra(PeftType):
    name = "hra"
    methods = ("hra",)
    slots = {"U": "hra_u"}
    table = {"gs": Field("apply_GS", bool)}
    open = True

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        return fields_of.complete("hra", {**super().values(config, path), "r": fields_of.size(config, "r")})

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        width, r = placing.axes(path, "hra_u", shapes["U"], 2)
        return placing.flattened(model, Target(path, kinds.LINEAR, (0, width), {**values, "r": r}))

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        """Raises `Unsupported` for several ranks or forms, and for layers that PEFT has no HRA of."""
        require_layers("HRA", adapter)
        forms = {(t.config["r"], t.config["gs"]) for t in adapter.targets.values()}
        if len(forms) > 1:
            raise Unsupported("PEFT's HRA has one rank and one form for all targets", hint=phrases.OWN)
        return {**super().fields(adapter), "r": forms.pop()[0]}

    def lost(self, adapter: Adapter) -> list[str]:
        penalty = any(target.config["orthogonal"] for target in adapter.targets.values())
        return [*super().lost(adapter), *(["`orthogonal`, the penalty of further training"] if penalty else [])]


def require_layers(called: str, adapter: Adapter) -> None:
    """Raises `Unsupported` for a target that is neither linear nor a square convolution."""
    for path, target in adapter.targets.items():
        kernel = target.shape[2:]
        if target.kind != kinds.LINEAR and not (len(kernel) == 2 and kernel[0] == kernel[1]):
            raise Unsupported(
                f"`{path}`: PEFT's {called} works on linear layers and on convolutions with square kernels, and this "
                f"is a {target.kind}",
                hint="leave that layer out of the targets",
            )
