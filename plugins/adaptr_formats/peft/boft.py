"""PEFT's BOFT: method `boft`. Sizes come from the tensors; PEFT needs its CUDA extension for more than one factor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import PeftType, Shapes
from adaptr_formats.peft.hra import require_layers

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same


class Boft(PeftType):
    name = "boft"
    methods = ("boft",)
    slots = {"Q": "boft_R", "s": "boft_s"}
    open = True
    only = {"side": "in"}

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        return fields_of.complete("boft", {})

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        m, n, b, other = placing.axes(path, "boft_R", shapes["Q"], 4)
        sides = placing.axes(path, "boft_s", shapes["s"], 2)
        if b != other or 1 not in sides:
            raise ConfigConflict(
                f"`{path}`: `boft_R` and `boft_s`",
                verb="have",
                got=f"shapes {shapes['Q']} and {sides}",
                want="square blocks, and one column or row",
                hint=phrases.AGAIN,
            )
        return placing.flattened(
            model, Target(path, kinds.LINEAR, (max(sides), n * b), {**values, "m": m, "n": n, "b": b})
        )

    def piece(self, target: Target, name: str, key: str, shape: tuple[int, ...]) -> Piece:
        return Piece(key, (max(shape),) if name == "s" else shape)

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        """Raises `Unsupported` where neither blocks have one size nor their number is one."""
        require_layers("BOFT", adapter)
        configs = [target.config for target in adapter.targets.values()]
        m, n, b = ({c[name] for c in configs} for name in ("m", "n", "b"))
        if len(m) > 1 or (len(n) > 1 and len(b) > 1):
            raise Unsupported(
                "PEFT's BOFT has one number of factors, and one size or one number of blocks, for all targets",
                hint=phrases.OWN,
            )
        blocks = {"boft_block_size": b.pop(), "boft_block_num": 0} if len(b) == 1 else {
            "boft_block_size": 0, "boft_block_num": n.pop(),
        }  # fmt: skip
        return {**super().fields(adapter), **blocks, "boft_n_butterfly_factor": m.pop()}

    def laid(self, target: Target, name: str, found: Same) -> Tensor | Same:
        if name != "s":
            return found
        return found.reshape((1, *found.shape) if target.shape[2:] else (*found.shape, 1))
