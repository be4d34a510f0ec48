"""WaveFT: W' = W + s DWT⁻¹(C), C zero but at n places of one level of a wavelet transform.  Bilican et al. 2025,
arXiv:2505.12532.

C is framed so that all of the weight is inside what the filters reach, and the result is cut to the weight. `wavelet`:
Daubechies' filters of 2, 4, 6 or 8 numbers; "" for none, which leaves a random sparse D.

Choose it instead of `fourierft` where the change is local: each number moves a patch of the weight, and how many there
are is free. The whole change is made in every step, and it wants a high rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptr import Param
from adaptr_plugins.delta._spectrum import Spectral

if TYPE_CHECKING:
    from torch import Tensor

#: Reconstruction filters (low pass); the high pass is the same backwards with alternating signs.
FILTERS = {
    "db1": (0.7071067811865476, 0.7071067811865476),
    "db2": (0.48296291314469025, 0.836516303737469, 0.22414386804185735, -0.12940952255092145),
    "db3": (
        0.3326705529509569, 0.8068915093133388, 0.4598775021193313, -0.13501102001039084, -0.08544127388224149,
        0.035226291882100656,
    ),
    "db4": (
        0.23037781330885523, 0.7148465705525415, 0.6308807679295904, -0.02798376941698385, -0.18703481171888114,
        0.030841381835986965, 0.032883011666982945, -0.010597401784997278,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    n: int = 2592
    s: float = 25.0
    wavelet: Literal["", "db1", "db2", "db3", "db4"] = "db1"
    loc_seed: int = 777
    rows: int = 1
    cols: int = 1


class WaveFT(Spectral[Config]):
    name = "waveft"
    params = {**Spectral.params, "c": Param("n")}

    def image(self, c: Tensor, i: Tensor, cfg: Config) -> Tensor:
        """Each coefficient adds the outer product of two filters, which are swapped between the quadrants."""
        import torch

        u, v = i // cfg.cols, i % cfg.cols
        zeros = c.new_zeros(cfg.rows * cfg.cols)
        if not cfg.wavelet:
            return zeros.index_put((i,), c * cfg.s).view(cfg.rows, cfg.cols)
        low = torch.tensor(FILTERS[cfg.wavelet], dtype=c.dtype, device=c.device)
        signs = 1 - 2 * (torch.arange(len(low), device=c.device) % 2).to(c.dtype)
        both = torch.stack([low, low.flip(0) * signs])
        y, lower = _reached(u, cfg.rows, len(low))
        x, right = _reached(v, cfg.cols, len(low))
        patch = c.view(-1, 1, 1) * both[right.long()].unsqueeze(2) * both[lower.long()].unsqueeze(1) * cfg.s
        inside = ((y >= 0) & (y < cfg.rows)).unsqueeze(2) & ((x >= 0) & (x < cfg.cols)).unsqueeze(1)
        at = y.clamp(0, cfg.rows - 1).unsqueeze(2) * cfg.cols + x.clamp(0, cfg.cols - 1).unsqueeze(1)
        return zeros.index_add(0, at.flatten(), (patch * inside).flatten()).view(cfg.rows, cfg.cols)


def _reached(place: Tensor, size: int, length: int) -> tuple[Tensor, Tensor]:
    """Along one axis: what each coefficient reaches (n, length) of the weight, and whether it is in the second half."""
    import torch

    more = length - 2
    frame = size + more + (size + more) % 2
    half = frame // 2
    framed = place + (frame - size) // 2
    second = framed >= half
    first = 2 * (framed - half * second) - more - (frame - more - size) // 2
    return first.unsqueeze(1) + torch.arange(length, device=place.device), second
