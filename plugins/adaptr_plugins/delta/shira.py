"""SHiRA: W' = W + alpha S, with S zero but at a fixed set of places, 1-2 % of the weight.  Bhardwaj et al. 2024,
arXiv:2406.13175.

As many values are trained as a LoRA of rank `r` has, r (out + in), or `n`. Their places are chosen before training and
stored: at random (`rand`, by a generator whose stream never changes), where |W| is largest (`wm`), or whole rows and
the diagonal (`struct`). alpha is 1 in training and free afterwards.

Choose it where adapters are switched often or laid over one another: few places of the weight change, and those of two
adapters hardly meet. In training the gradient of the whole weight is made at each layer, which is slower than LoRA's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import Delta, Param, Sparse, Target, View
from adaptr.algebra.sparse import require_places
from adaptr.contract import Live

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    r: int = 8
    alpha: float = 1.0
    mask: Literal["rand", "wm", "struct"] = "rand"
    seed: int = 0
    n: int = 0
    rows: int = 1
    cols: int = 1


class SHiRA(Delta[Config]):
    name = "shira"
    params = {"v": Param("entries"), "i": Param("entries", init="custom", trains=False, whole=True)}
    kinds = frozenset({"linear", "linear_t", "embedding"})
    targets = ("all-linear",)
    as_stored = True
    least = {"r": 1, "n": 0}
    sizes = {"rows": 0, "cols": 1}

    def delta(self, p: Live, cfg: Config) -> Sparse:
        require_places(p["i"], cfg.rows * cfg.cols, self.name)
        return Sparse(p["i"], p["v"], (cfg.rows, cfg.cols), cfg.alpha)

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        rows, cols = target.shape
        n = values.get("n") or self.config(values).r * (rows + cols)
        return {**values, "n": min(n, rows * cols), "rows": rows, "cols": cols}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        return {"entries": cfg.n or min(cfg.r * sum(target.shape), target.shape[0] * target.shape[1])}

    def changes(self, target: Target, cfg: Config) -> int:
        return self.axes(target, cfg)["entries"]

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        import torch

        if made["v"].is_meta:
            return {"i": torch.empty(made["v"].shape, dtype=torch.int64, device="meta")}
        cfg, n = self.config(target.config), len(made["v"])
        return {"i": {"rand": _random, "wm": _largest, "struct": _structured}[cfg.mask](target, base, cfg, n)}


def _random(target: Target, base: View, cfg: Config, n: int) -> Tensor:
    from adaptr.algebra import stream

    return stream.choose(cfg.seed, f"shira.{target.path}", cfg.rows * cfg.cols, n)


def _largest(target: Target, base: View, cfg: Config, n: int) -> Tensor:
    """Where |W| is largest; of equals, the first."""
    import torch

    order = torch.sort(base.weight.float().abs().flatten(), descending=True, stable=True).indices
    return torch.sort(order[:n]).values


def _structured(target: Target, base: View, cfg: Config, n: int) -> Tensor:
    """The diagonal, then rows at equal distances, filled up to n from the first on."""
    import torch

    diagonal = torch.arange(min(cfg.rows, cfg.cols)) * (cfg.cols + 1)
    count = -(-n // cfg.cols)
    rows = torch.arange(count) * cfg.rows // count
    every = torch.cat([diagonal, (rows.unsqueeze(1) * cfg.cols + torch.arange(cfg.cols)).flatten()])
    _, first = torch.unique(every, return_inverse=True)
    place = torch.full((int(first.max()) + 1,), len(every)).scatter_reduce(0, first, torch.arange(len(every)), "amin")
    return torch.sort(every[torch.sort(place).values[:n]]).values
