"""sd-scripts' `split_qkv` of Flux: fused projections whose factors are blocks, scaled otherwise than in training.

It trains q, k and v (and the MLP's input) on their own, each with alpha / r, and writes them as one pair of 3 r (or
4 r) rows with the same alpha: every reader, sd-scripts among them, computes alpha / 3 r.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection

from adaptr.errors import TrainedOtherwise
from adaptr.foreign.pieces.low_rank import DOWN, UP
from adaptr.foreign.pieces.module import Module

#: How the paths of fused projections end, and of how many each is made.
PARTS = {".qkv": 3, ".linear1": 4}


def warn(modules: Collection[Module]) -> None:
    """Say so where a file is one: it is read as all read it."""
    ranks = Counter(module.shapes[DOWN][0] for module in modules if module.has(DOWN))
    usual = min((rank for rank, _ in ranks.most_common(2)), default=0)
    found = next((module for module in modules if _is_split(module, usual)), None)
    if found is not None:
        warnings.warn(
            f"`{found.path}` was trained in parts (`split_qkv`) at a scale that the file does not keep: it is read as "
            "sd-scripts and ComfyUI read it, and does less than it did in training",
            TrainedOtherwise,
            stacklevel=2,
        )


def _is_split(module: Module, rank: int) -> bool:
    parts = next((count for end, count in PARTS.items() if module.path.endswith(end)), 0)
    if not parts or not module.has(DOWN) or not module.has(UP) or module.shapes[DOWN][0] != parts * rank:
        return False
    up = module.file[module.keys[UP]]
    out = up.shape[0] // parts if parts == 3 else _qkv(up.shape[0], module.shapes[DOWN][1])
    ends = [out * (part + 1) for part in range(parts - 1)] + [up.shape[0]]
    starts = [0, *ends[:-1]]
    blocks = range(parts)
    return all(not up[starts[i] : ends[i], j * rank : (j + 1) * rank].any() for i in blocks for j in blocks if i != j)


def _qkv(out: int, width: int) -> int:
    """Rows of each of q, k and v in a projection that has the MLP's behind them: as wide as the model."""
    return width if 3 * width < out else out // 4
