"""PEFT's OFT: method `oft`. Its exact form is the transpose of the paper's, so the skew entries change their sign."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import ConfigConflict, Unsupported, phrases
from adaptr.foreign import placing
from adaptr.foreign.draft import Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft.types import Field, PeftType, Shapes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same

#: The first version whose truncated series is today's.
SERIES = (0, 18)


class Oft(PeftType):
    name = "oft"
    methods = ("oft",)
    slots = {"Q": "oft_R"}
    weight = frozenset({"oft_R"})
    only = {"side": "in", "rescale": False}
    table = {"share": Field("block_share", bool)}
    refused = {
        "coft": "constrained OFT changes its weights at every forward, so the file is not what PEFT computes with"
    }
    turns = open = True

    def values(self, config: Mapping[str, Any], path: str) -> dict[str, Any]:
        return fields_of.complete("oft", {"terms": _terms(config), **super().values(config, path)})

    def target(
        self, source: Source, model: nn.Module | None, path: str, shapes: Shapes, values: dict[str, Any]
    ) -> Target:
        """Sizes of blocks come from the tensors, the number of outputs from the base."""
        shape = shapes["Q"]
        if len(shape) != 2:
            raise ConfigConflict(
                f"`oft_R` of `{path}`", verb="has", got=f"shape {shape}", want="(blocks, entries)", hint=phrases.AGAIN
            )
        blocks, entries = shape
        b = (1 + math.isqrt(1 + 8 * entries)) // 2
        if b * (b - 1) // 2 != entries:
            raise ConfigConflict(
                f"`oft_R` of `{path}`",
                verb="has",
                got=f"{entries} columns",
                want="as many as a skew matrix has entries",
                hint=phrases.AGAIN,
            )
        if values["share"]:
            placing.needed(model, path, "a shared block doesn't say how wide the layer is")
        kind = kinds.layer(fields_of.flag(source.config, "fan_in_fan_out"))
        width = 0 if values["share"] else blocks * b
        return placing.agreed(model, Target(path, kind, (0, width), {**values, "b": b}))

    def piece(self, target: Target, name: str, key: str, shape: tuple[int, ...]) -> Piece:
        return Piece(key, shape, then=None if target.config["terms"] else _negated)

    def fields(self, adapter: Adapter) -> dict[str, Any]:
        configs = [target.config for target in adapter.targets.values()]
        if len({(c["b"], c["terms"], c["share"]) for c in configs}) > 1:
            raise Unsupported(
                "PEFT's OFT has one block size and one form for all targets, and this adapter has several",
                hint=phrases.OWN,
            )
        terms = configs[0]["terms"]
        return {
            **super().fields(adapter),
            "r": 0,
            "oft_block_size": configs[0]["b"],
            "use_cayley_neumann": bool(terms),
            **({"num_cayley_neumann_terms": terms, "peft_version": "0.18.0"} if terms else {}),
        }

    def laid(self, target: Target, name: str, found: Same) -> Tensor | Same:
        if target.kind.startswith("conv"):
            raise Unsupported(
                f"`{target.path}`: PEFT rotates the patches of a convolution and folds them, which is not W Rᵀ",
                hint="leave that layer out of the targets",
            )
        return found if target.config["terms"] else -found.tensor


def _terms(config: Mapping[str, Any]) -> int:
    """adaptr's number of terms, 0 for the exact form."""
    if not fields_of.flag(config, "use_cayley_neumann"):
        return 0
    if fields_of.version(config) < SERIES:
        raise Unsupported(
            "PEFT before 0.18 (or a file that doesn't say) computed another series from the same weights",
            hint="merge it with the PEFT that it was trained with",
        )
    terms = fields_of.size(config, "num_cayley_neumann_terms", 5)
    if terms < 3:
        raise Unsupported(
            "`num_cayley_neumann_terms`", got=terms, want="at least 3", hint="correct it in `adapter_config.json`"
        )
    return max(terms, 4)  # PEFT's series of 3 terms has 4


def _negated(Q: Tensor) -> Tensor:
    return -Q
