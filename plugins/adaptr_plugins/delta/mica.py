"""MiCA: W' = W + s B A, B the last r left singular vectors of W, frozen.  Rüdiger and Raschka 2026, arXiv:2604.01694.

A alone learns, from zero: what the weight hardly does is where it is changed. B is stored, as decompositions are other
on other machines.

Choose it where the base should be disturbed least: only what it hardly writes to is written to. The half that it learns
begins at zero beside a fixed one, so that it wants a higher rate or rank than LoRA, and a decomposition of every layer
to begin with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from adaptr import Param, Target, View
from adaptr.contract import Costs
from adaptr.errors import BadConfig
from adaptr_plugins.delta._factors import Config, Plain

if TYPE_CHECKING:
    from torch import Tensor


class MiCA(Plain[Config]):
    name = "mica"
    params = {
        "A": Param("r in"),
        "B": Param("out r", init="custom", trains=False),
        "b": Param("out", when="bias"),
    }
    kinds = frozenset({"linear", "linear_t", "embedding"})
    small = {"r": 2, "alpha": 2.0}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        if cfg.r > min(target.shape):
            raise BadConfig(f"`mica` at `{target.path}`: `r`", got=cfg.r, want=f"at most {min(target.shape)}")
        return {}

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        """A's gradient is made of the input and of what comes back through B."""
        return None if cfg.dropout else Costs(input=True, flops=2 * cfg.r * sum(target.shape))

    def init_rule(self, param: str, target: Target) -> str:
        return self.params[param].init

    def init_custom(self, target: Target, base: View, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        import torch

        W, r = base.weight, self.config(target.config).r
        if W.is_meta:
            return {"B": torch.empty(len(W), r, device="meta")}
        return {"B": torch.linalg.svd(W.detach().float(), full_matrices=False).U[:, -r:].contiguous()}
