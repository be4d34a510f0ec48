"""Bone: W'_oi = W_oi (I + M_o) + M_o on blocks of r by r, one M_o for each row of blocks.  Kang 2024, arXiv:2409.15371.

PEFT's MiSS with the mode "bat". r is made a divisor of both sides of the layer: the largest up to `r`.

Choose it where a base should be turned a little rather than added to, with numbers by the block and no second factor.
What it does depends on the weight, so that composing needs the base; `miss` is its additive kin and costs less.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Param, Target, Transform, View
from adaptr.contract import Live
from adaptr.contract.view import ALL
from adaptr.errors import BadConfig
from adaptr.families.blocks import divisor
from adaptr.precision import wide

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    r: int = 64


class Bone(Transform[Config]):
    name = "bone"
    params = {"M": Param("blocks r r")}
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q", "attn.v")
    small = {"r": 8}

    def weight(self, W: Tensor, p: Live, cfg: Config) -> Tensor:
        M = p["M"].to(W.dtype)
        blocks = _blocks(W, cfg.r)
        return (blocks + blocks @ M.unsqueeze(1) + M.unsqueeze(1)).transpose(1, 2).reshape(W.shape)

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "r": divisor("`bone`: `r`", self.config(values).r, math.gcd(*target.shape), target.path)}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        out, into = target.shape
        if out % cfg.r or into % cfg.r:
            raise BadConfig("`bone`: `r`", got=cfg.r, want=f"a divisor of {out} and {into} at `{target.path}`")
        return {"blocks": out // cfg.r}

    def inverse(self, merged: View, p: Live, cfg: Config, kept: Mapping[str, Tensor], weight: float) -> View:
        """(W' - w M) (I + w M)⁻¹, in fp64: what is nearly singular loses digits."""

        def rows(s: slice) -> Tensor:
            import torch

            read = merged.rows(ALL)
            M = weight * p["M"].double().unsqueeze(1)
            one = torch.eye(cfg.r, dtype=M.dtype, device=M.device)
            blocks = torch.linalg.solve(one + M, _blocks(wide(read).double(), cfg.r) - M, left=False)
            whole: Tensor = blocks.transpose(1, 2).reshape(read.shape).to(read.dtype)
            return whole[s]

        return merged.then(rows=rows)


def _blocks(W: Tensor, r: int) -> Tensor:
    """W (out, in) as (out / r, in / r, r, r)."""
    out, into = W.shape
    return W.view(out // r, r, into // r, r).transpose(1, 2)
