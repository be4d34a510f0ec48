"""PVeRA: W' = W + diag(b) B diag(d) A, its inner activations drawn from a normal distribution in training.  Fillioux et
al. 2025, arXiv:2512.07703.

A is (2r, in_max): the first r rows of diag(d) A x are means, the others logarithms of variances, which only training
reads. Otherwise as VeRA; everything but training is without noise. The loss gets no term of the distribution, as in
PEFT.

Choose it instead of VeRA where few records are learnt by heart: noise in training is its regularisation. It draws for
each token, has twice the first vector, and once trained gives what a VeRA gives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr import LowRank, Param, Target
from adaptr.contract import Costs, Live, View
from adaptr_plugins.delta._drawn import Pair
from adaptr_plugins.delta.vera import Config, VeRA

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.contract.view import Call


class PVeRA(VeRA):
    name = "pvera"
    params = {
        **VeRA.params,
        "A": Param("both in_max", init="custom", when="stored", trains=False, shared=True),
        "d": Param("both", init="fill"),
    }

    small = {"r": 4}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        return {"both": 2 * cfg.r}

    def delta(self, p: Live, cfg: Config) -> LowRank:
        A, B = self.scaled(p, cfg)
        return LowRank(B, A[: cfg.r])

    def scaled(self, p: Live, cfg: Config) -> tuple[Tensor, Tensor]:
        """diag(d) A (2r, in) and diag(b) B (out, r)."""
        A, B = self.projections(p, cfg)
        d, b = p["d"].unsqueeze(-1), p["b"].unsqueeze(-1)
        return d * A[:, : cfg.width].to(d.device), b * B[: len(b)].to(b.device)

    def pair(self, cfg: Config) -> Pair:
        made = super().pair(cfg)
        return made._replace(A=(2 * cfg.r, cfg.in_max))

    def live(self, base: View, p: Live, cfg: Config, weight: float, call: Call) -> Call:
        def noisy(x: Tensor) -> Tensor:
            if not p.training:
                return call(x)
            import torch
            from torch.nn.functional import dropout

            A, B = self.scaled(p, cfg)
            given = dropout(x, cfg.dropout) if cfg.dropout else x
            mean, log = (given.to(A.dtype) @ A.mT).chunk(2, -1)
            y: Tensor = base(x)
            return y + ((mean + torch.randn_like(mean) * (log / 2).exp()) @ B.mT * weight).to(y.dtype)

        return noisy

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        """The projections as d and b scale them are kept, and of each token its deviations, its draws and its sums."""
        out, into = target.shape
        both = cfg.r * (2 * into + out)
        return None if cfg.dropout else Costs(True, token=3 * cfg.r, once=both, flops=2 * both)
