"""PEFT's OFT: method `oft`. Its exact form is the transpose of the paper's, so the skew entries change their sign."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adaptr import kinds
from adaptr.adapter import Target
from adaptr.errors import ConfigConflict, Unsupported
from adaptr.foreign import placing, same
from adaptr.foreign.draft import Draft, Piece
from adaptr.foreign.peft import config as fields_of
from adaptr.foreign.peft import keys

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.foreign.peft.source import Source
    from adaptr.foreign.same import Same

_REFUSED = {"coft": "constrained OFT changes its weights at every forward, so the file is not what PEFT computes with"}
#: The first version whose truncated series is today's.
SERIES = (0, 18)


def read(source: Source, model: nn.Module | None) -> Draft:
    """Targets and tensors; sizes of blocks come from the tensors, the number of outputs from the base."""
    fields_of.refuse(source.config, _REFUSED)
    terms = _terms(source.config)
    share = fields_of.flag(source.config, "block_share")
    targets: dict[str, Target] = {}
    pieces: dict[str, Piece] = {}
    for path, slots in keys.grouped(source.keys).items():
        key = keys.chosen(path, slots, {"Q": "oft_R"})["Q"]
        shape = source.shapes[key]
        if len(shape) != 2:
            raise ConfigConflict(f"`{key}` has shape {shape}, wanted (blocks, entries)")
        blocks, entries = shape
        b = (1 + math.isqrt(1 + 8 * entries)) // 2
        if b * (b - 1) // 2 != entries:
            raise ConfigConflict(f"`{key}` has {entries} columns, which are no skew matrix's entries")
        values = fields_of.complete("oft", {"b": b, "terms": terms, "share": share})
        width = 0 if share else blocks * b
        if share:
            placing.needed(model, path, "a shared block doesn't say how wide the layer is")
        kind = kinds.layer(fields_of.flag(source.config, "fan_in_fan_out"))
        targets[path] = placing.agreed(model, Target(path, kind, (0, width), values))
        pieces[f"{path}:Q"] = Piece(key, shape, then=None if terms else _negated)
    return Draft("oft", fields_of.complete("oft", {"terms": terms, "share": share}), targets, pieces)


def _terms(config: Mapping[str, Any]) -> int:
    """adaptr's number of terms, 0 for the exact form."""
    if not fields_of.flag(config, "use_cayley_neumann"):
        return 0
    if fields_of.version(config) < SERIES:
        raise Unsupported("PEFT before 0.18 (or a file that doesn't say) computed another series from the same weights")
    terms = fields_of.size(config, "num_cayley_neumann_terms", 5)
    if terms < 3:
        raise Unsupported(f"`num_cayley_neumann_terms` is {terms}, wanted at least 3")
    return max(terms, 4)  # PEFT's series of 3 terms has 4


def _negated(Q: Tensor) -> Tensor:
    return -Q


def fields(adapter: Adapter) -> dict[str, Any]:
    """The configuration fields that follow from the targets."""
    configs = [t.config for t in adapter.targets.values()]
    if len({(c["b"], c["terms"], c["share"]) for c in configs}) > 1:
        raise Unsupported("PEFT's OFT has one block size and one form for all targets; this adapter has several")
    terms = configs[0]["terms"]
    return {
        "peft_type": "OFT",
        "r": 0,
        "oft_block_size": configs[0]["b"],
        "block_share": configs[0]["share"],
        "use_cayley_neumann": bool(terms),
        **({"num_cayley_neumann_terms": terms, "peft_version": "0.18.0"} if terms else {}),
        "fan_in_fan_out": any(t.kind == kinds.LINEAR_T for t in adapter.targets.values()),
        "target_modules": placing.ordered(adapter.targets),
    }


def lost(adapter: Adapter) -> list[str]:
    return []


def tensors(adapter: Adapter) -> dict[str, tuple[str, Tensor | Same]]:
    """{adaptr's key: (PEFT's key, tensor)}."""
    made: dict[str, tuple[str, Tensor | Same]] = {}
    for path, target in adapter.targets.items():
        if target.kind.startswith("conv"):
            raise Unsupported(f"`{path}`: PEFT rotates the patches of a convolution and folds them, which is not W Rᵀ")
        Q = same.at(adapter, path)["Q"]
        made[f"{path}:Q"] = keys.written(path, "oft_R"), Q if target.config["terms"] else -Q.tensor
    return made
