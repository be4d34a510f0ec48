"""LoRA-GA: W' = W + s (B A - B0 A0), A0 and B0 of the singular vectors of the weight's gradient, G = U S Vᵀ.  Wang, Yu
and Li 2024, arXiv:2407.05000.

So that the first step is nearest to one of full training. G is the mean over the first batches. Of its 2 r first
triplets A gets directions of Vᵀ, and B those of U times their singular values: the first and the second r (`ArB2r`),
the other way round (`A2rBr`), or by turns (`ArBr`); PEFT's fourth way, at random, is left out. `size`: B is multiplied
by out^¼ / √`gamma` (`stable`), or so that its first singular value is the weight's (`weight_svd`); both factors are
divided by s (`gd_scale`); or nothing is done (`unit`). So is it in PEFT; that the paper has no singular values in B is
not confirmed. s is 1 unless `alpha` is said. Where it begins is stored, as PiSSA's is.

Choose it where LoRA converges too slowly and a few backward passes before training are no matter: it begins along the
gradient. It takes gradients of the targets' weights at once, as large as these in fp32, and a file of twice the rank.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptr import Target
from adaptr.errors import BadConfig
from adaptr_plugins.delta import _begun, _looking, _seen

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.contract import Run
    from adaptr.host import Session


@dataclass(frozen=True)
class Config(_begun.Config):
    direction: Literal["ArB2r", "A2rBr", "ArBr"] = "ArB2r"
    size: Literal["stable", "weight_svd", "gd_scale", "unit"] = "stable"
    gamma: float = 16.0


class LoRAGA(_seen.Seen[Config]):
    name = "lora-ga"

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        if 2 * cfg.r > min(target.shape):
            want = f"at most {min(target.shape) // 2}, half of the gradient's"
            raise BadConfig(f"`lora-ga` at `{target.path}`: `r`", got=cfg.r, want=want)
        return super().axes(target, cfg)

    def prepare(self, session: Session, data: Iterable[Run]) -> None:
        for path, G in _looking.gradients(session, data).items():
            cfg = self.config(session.adapter.targets[path].config)
            self.begin_with(session, path, *self.aligned(G, session.base(path).weight, cfg))

    def aligned(self, G: Tensor, W: Tensor, cfg: Config) -> tuple[Tensor, Tensor]:
        """B0 (out, r) and A0 (r, in)."""
        U, S, Vh = _begun.leading(G, 2 * cfg.r)
        first, second = slice(cfg.r), slice(cfg.r, None)
        of_A, of_B = {
            "ArB2r": (first, second),
            "A2rBr": (second, first),
            "ArBr": (slice(1, None, 2), slice(0, None, 2)),
        }[cfg.direction]
        A, B = Vh[of_A], U[:, of_B] * S[of_B]
        if cfg.size == "stable":
            B = B * (len(B) ** 0.25 / cfg.gamma**0.5)
        elif cfg.size == "weight_svd" and S[of_B][0] > 0:
            B = B * (_begun.leading(W.float(), 1)[1][0] / S[of_B][0])
        elif cfg.size == "gd_scale":
            A, B = A / self.scale(cfg), B / self.scale(cfg)
        return B, A
