"""What PEFT's types have in common that train coefficients at places drawn from a seed: only the coefficients are
saved, and the places drawn again by torch's permutation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import PeftType, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same


class Spectral(PeftType):
    turns = open = True

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        return fields_of.complete(self.methods[0], super().values(config, path))

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        found, n = placing.place(model, path, "a spectrum doesn't say how large its layer is"), shapes["c"][0]
        rows, cols = found.shape
        if n > rows * cols:
            raise ConfigConflict(
                f"`{self.slots['c']}` of `{path}`",
                verb="has",
                got=f"{n} numbers",
                want=f"at most {rows * cols}, as the layer has",
                hint=phrases.AGAIN,
            )
        return Target(path, found.kind, found.shape, {**values, "n": n, "rows": rows, "cols": cols})

    def unsaved(self, source: Source, model: nn.Module | None, target: Target) -> Mapping[str, Tensor]:
        return {"i": _places(target)}

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        n = {path: target.config["n"] for path, target in adapter.targets.items()}
        most = fields_of.common(n)
        return {**super().fields(adapter), "n_frequency": most, "n_frequency_pattern": fields_of.by_path(n, most)}

    def tensors(self, adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
        """Raises `Unsupported` for places that PEFT would not draw."""
        for path, target in adapter.targets.items():
            if not adapter.at(path)["i"].equal(_places(target)):
                raise Unsupported(
                    f"`{path}`: PEFT would draw other places from seed {target.config['loc_seed']}", hint=phrases.OWN
                )
        return super().tensors(adapter)


def _places(target: Target) -> Tensor:
    from adaptr_plugins.delta._spectrum import places

    return places(target.config["loc_seed"], target.shape, target.config["n"])
