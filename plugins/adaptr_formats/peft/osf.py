"""PEFT's OSF: method `osf`. A file has what is trained; what was kept of the base both make of the base again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import PeftType, Shapes

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source

TRAINED = "osf_svd_params"


class OSF(PeftType):
    name = "osf"
    methods = ("osf",)
    slots = {"U": f"{TRAINED}.U_low", "S": f"{TRAINED}.S_low", "V": f"{TRAINED}.V_low"}

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        """How many are kept follows from the tensors."""
        (out, low), (other, into) = (placing.axes(path, self.slots[name], shapes[name], 2) for name in "UV")
        k = min(out, into) - low
        if low != other or shapes["S"] != (low,) or k < 1:
            raise ConfigConflict(
                f"`{path}`: `{TRAINED}`",
                verb="has",
                got=f"shapes {dict(shapes)}",
                want="fewer triplets than the layer has",
                hint=phrases.AGAIN,
            )
        return placing.agreed(model, Target(path, kinds.LINEAR, (out, into), {"k": k}))

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        if any(target.kind != kinds.LINEAR for target in adapter.targets.values()):
            raise Unsupported("PEFT's OSF works on linear layers alone", hint=phrases.OWN)
        k = {path: target.config["k"] for path, target in adapter.targets.items()}
        most = fields_of.common(k)
        others = {f"^{re.escape(path)}$": n for path, n in k.items() if n != most}
        return {**super().fields(adapter), "effective_rank": most, "rank_pattern": others}
