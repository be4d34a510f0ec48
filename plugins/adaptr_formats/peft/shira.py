"""PEFT's SHIRA: method `shira`. Places are (2, n) rows and columns there, flat indices here."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import PeftType, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same


class Shira(PeftType):
    name = "shira"
    methods = ("shira",)
    slots = {"v": "shira_weight", "i": "shira_indices"}
    open = True

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        return fields_of.complete("shira", {"r": fields_of.size(config, "r")})

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        """Sizes of layers come from the base."""
        placing.needed(model, path, "a SHiRA file doesn't say how large its layers are")
        (n,), places = shapes["v"], shapes["i"]
        if places != (2, n):
            raise phrases.misshapen(f"`shira_indices` of `{path}`", places, (2, n), ConfigConflict, hint=phrases.AGAIN)
        place = placing.agreed(model, Target(path, kinds.LINEAR, (0, 0)))
        rows, cols = place.shape
        return Target(path, place.kind, place.shape, {**values, "n": n, "rows": rows, "cols": cols})

    def piece(self, target: Target, name: str, key: str, shape: tuple[int, ...]) -> Piece:
        rows, cols = target.shape
        flat = functools.partial(_flat, target.path, rows, cols)
        return Piece(key, (target.config["n"],), then=flat if name == "i" else None)

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        """Raises `Unsupported` for counts that PEFT can't have."""
        ranks = set()
        for path, target in adapter.targets.items():
            r, rest = divmod(target.config["n"], sum(target.shape))
            if rest or target.config["alpha"] != 1.0 or target.kind != kinds.LINEAR:
                raise Unsupported(
                    f"`{path}`: PEFT's SHiRA has r (out + in) values of strength 1 on linear layers, and this "
                    f"has {target.config['n']} of strength {target.config['alpha']} on a {target.kind}",
                    hint=phrases.OWN,
                )
            ranks.add(r)
        if len(ranks) > 1:
            raise Unsupported(
                f"PEFT's SHiRA has one rank for all targets, and this adapter has {sorted(ranks)}", hint=phrases.OWN
            )
        return {**super().fields(adapter), "r": ranks.pop()}

    def laid(self, target: Target, name: str, found: Same) -> Tensor | Same:
        import torch

        if name == "v":
            return found
        flat, cols = found.tensor, target.shape[1]
        return torch.stack([flat // cols, flat % cols]).to(torch.int32)


def _flat(path: str, rows: int, cols: int, places: Tensor) -> Tensor:
    """Flat indices in C order. Raises `ConfigConflict` unless they increase and lie inside."""
    i, j = places.long()
    flat: Tensor = i * cols + j
    inside = bool(((i >= 0) & (i < rows) & (j >= 0) & (j < cols)).all())
    if not inside or bool((flat[1:] <= flat[:-1]).any()):
        raise ConfigConflict(
            f"`{path}`: the places of `shira_indices` are not increasing inside {rows} by {cols}", hint=phrases.AGAIN
        )
    return flat
