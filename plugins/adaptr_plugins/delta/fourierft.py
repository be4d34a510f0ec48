"""FourierFT: W' = W + s Re(F⁻¹(C)), C zero but at n places of the spectrum.  Gao et al. 2024, arXiv:2405.03003.

D[p, q] = s / (out in) Σ c_k cos(2π (p u_k / out + q v_k / in)), with (u_k, v_k) fixed and stored. Not the identity when
fresh: c is N(0, 1), as in the paper.

Choose it where an adapter must be of a thousand numbers a layer whatever its width: the paper has LoRA's scores with a
hundredth of its numbers. The whole change is made by a transform in every step, it wants a high rate, and it is not the
identity when fresh.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr_plugins.delta._spectrum import Spectral

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    n: int = 1000
    s: float = 150.0
    loc_seed: int = 777
    rows: int = 1
    cols: int = 1


class FourierFT(Spectral[Config]):
    name = "fourierft"
    identity = False

    def image(self, c: Tensor, i: Tensor, cfg: Config) -> Tensor:
        import torch

        spectrum = c.new_zeros(cfg.rows * cfg.cols).index_put((i,), c).view(cfg.rows, cfg.cols)
        found: Tensor = torch.fft.ifft2(spectrum).real * cfg.s
        return found
