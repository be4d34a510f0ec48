"""Super-Tuning: W' = W + S + s B A, S zero but where |W| is largest, and no B A for `r` 0.  Ilin, Zmushko and Richtárik
2026, arXiv:2607.09287.

A share 1 - `sparsity` of the weights is trained: the largest, or with `top` false the smallest. Their places are
stored: chosen again from a base in another precision they would be others. (The paper's choice weighs |W| by
activations; PEFT's and this one do not.) s = alpha / r. Dropout is on the input of both parts, in PEFT on the low-rank
one's.

Choose it where few of the weights should change, and the others not at all, with or without a LoRA beside them. Places
are stored with the values; a live layer forms the change densely in each call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Delta, LowRank, Operator, Param, Sparse, Target, View
from adaptr.algebra.sparse import require_places
from adaptr.contract import Live
from adaptr.errors import BadConfig

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    sparsity: float = 0.99
    top: bool = True
    r: int = 0
    alpha: float = 16.0
    dropout: float = 0.0
    n: int = 0
    rows: int = 1
    cols: int = 1


class SuperTuning(Delta[Config]):
    name = "supertuning"
    params = {
        "v": Param("entries"),
        "i": Param("entries", init="custom", trains=False, whole=True),
        "A": Param("r in", init="kaiming", when="r"),
        "B": Param("out r", when="r"),
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q", "attn.v")
    least = {"r": 0}
    sizes = {"rows": 0, "cols": 1}
    as_stored = True
    small = {"sparsity": 0.9, "r": 2, "alpha": 3.0}

    def delta(self, p: Live, cfg: Config) -> Operator:
        """Places are in any order in PEFT's files."""
        order = p.derived("order", (p["i"],), lambda: p["i"].argsort())
        require_places(p["i"][order], cfg.rows * cfg.cols, self.name)
        sparse = Sparse(p["i"][order], p["v"][order], (cfg.rows, cfg.cols))
        return sparse + LowRank(p["B"], p["A"], cfg.alpha / cfg.r) if cfg.r else sparse

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        rows, cols = target.shape
        n = values.get("n") or count(rows * cols, self.config(values).sparsity)
        if not 0 < n <= rows * cols:
            raise BadConfig(
                "`supertuning`: `sparsity`",
                got=self.config(values).sparsity,
                want=f"from 0 to below 1, with some of {rows * cols} weights left at `{target.path}`",
            )
        return {**values, "n": n, "rows": rows, "cols": cols}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        return {"entries": cfg.n}

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        import torch

        if made["v"].is_meta:
            return {"i": torch.empty(made["v"].shape, dtype=torch.int64, device="meta")}
        size = base.weight.float().abs().flatten()
        order = torch.sort(size, descending=self.config(target.config).top, stable=True).indices
        return {"i": torch.sort(order[: len(made["v"])]).values}


def count(numel: int, sparsity: float) -> int:
    """How many weights are trained, rounded as PEFT does; none for what is no share."""
    return int(numel * (1 - sparsity)) if 0 <= sparsity < 1 else 0
