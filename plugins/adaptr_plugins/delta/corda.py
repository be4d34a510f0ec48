"""CorDA: W' = W + s (B A - B0 A0), s B0 A0 of W's singular triplets where its inputs are, W C = U S Vᵀ, C = XᵀX.  Yang
et al. 2024, arXiv:2406.05223.

B0 = U √(S / s), A0 = √(S / s) Vᵀ C⁻¹, of the first r triplets (`ipm`: what the task needs is learnt on), or of the last
(`kpm`: what the inputs stand for is kept). C is the mean over the first batches of training, each divided by its
largest entry as PEFT does, with `damp` of its mean diagonal added, doubled until it can be inverted. Each target's C
takes in² numbers meanwhile. s is 1 unless `alpha` is said. Where it begins is stored, as PiSSA's is.

Choose it where the data shows what is to be learnt (`ipm`), or what must be kept (`kpm`), as PiSSA knows the weight
alone. It costs a look at some batches, much memory while it looks, decompositions of every layer, and a file of twice
the rank.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptr_plugins.delta import _begun, _looking, _seen

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.contract import Run
    from adaptr.host import Session

#: How far C C⁻¹ may be from the identity.
WRONG = 0.05


@dataclass(frozen=True)
class Config(_begun.Config):
    keep: Literal["ipm", "kpm"] = "ipm"
    damp: float = 0.01


class CorDA(_seen.Seen[Config]):
    name = "corda"

    def prepare(self, session: Session, data: Iterable[Run]) -> None:
        found: dict[str, tuple[Tensor, int]] = {}

        def see(path: str, x: Tensor) -> None:
            x = x / x.max().abs().clamp_min(1e-30)
            C, times = found.get(path, (0.0, 0))
            found[path] = C + x.mT @ x, times + 1

        _looking.inputs(session, data, see)
        for path, (C, times) in found.items():
            cfg = self.config(session.adapter.targets[path].config)
            B, A = oriented(session.base(path).weight.float(), C / times, cfg)
            self.begin_with(session, path, *_begun.halved(B, A[0], A[1], self.scale(cfg)))


def oriented(W: Tensor, C: Tensor, cfg: Config) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """U (out, r), and S (r) with Vᵀ C⁻¹ (r, in)."""
    import torch

    one, damp = torch.eye(len(C), device=C.device), cfg.damp
    while True:
        full = C + one * (C.diagonal().mean() * damp)
        inverse, failed = torch.linalg.inv_ex(full)
        if not failed and float((full @ inverse - one).norm()) < WRONG:
            break
        damp *= 2
    U, S, Vh = torch.linalg.svd(W @ full, full_matrices=False)
    part = slice(cfg.r) if cfg.keep == "ipm" else slice(len(S) - cfg.r, None)
    return U[:, part], (S[part], Vh[part] @ inverse)
