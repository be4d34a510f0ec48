"""OLoRA: W' = W + s (B A - B0 A0), B0 = Q_r, A0 = R_r of W = Q R.  Büyükakyüz 2024, arXiv:2406.01775.

B begins orthonormal, and A with the magnitude. The decomposition is the one whose R has a positive diagonal; it is
driven by the first columns of W, and not by its principal directions. What the authors recommend for `alpha` is not
confirmed; here it is r unless it is said. Where it begins is stored, as PiSSA's is.

Choose it, as PiSSA, for a faster beginning than LoRA's, with a cheaper decomposition. Its directions are those of the
first columns of the weight and not its principal ones, its file has twice the rank, and it wants a careful rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr_plugins.delta import _begun

if TYPE_CHECKING:
    from torch import Tensor


class OLoRA(_begun.Begun[_begun.Config]):
    name = "olora"

    def first(self, W: Tensor, cfg: _begun.Config) -> tuple[Tensor, Tensor]:
        import torch

        Q, R = torch.linalg.qr(W)
        signs = torch.where(R.diagonal() < 0, -1.0, 1.0)[: cfg.r]
        return Q[:, : cfg.r] * signs, R[: cfg.r] * signs[:, None]
