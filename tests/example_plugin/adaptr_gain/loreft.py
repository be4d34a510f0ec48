"""LoReFT: h' = h + Rᵀ (W h + b - R h) at the first and last tokens of the prompt, R with orthonormal rows.  Wu et al.
2024, arXiv:2404.03592.

At the outputs of blocks. R (r, d) is made orthonormal by a QR of what is trained, and stored so when training is
finished. Padding is no token, each of several texts packed into a row has its own ends, and text that is generated has
none. A prompt that is continued in a second call over its cache is refused, as its last tokens were not known in the
first. Fresh it is not the identity, as in the paper: W starts as a linear layer does, R as a random basis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from adaptr import Insert, Param
from adaptr.contract import Live
from adaptr_gain.prompt_continued import PromptContinued

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter
    from adaptr.host import Session
    from adaptr.host.context import Context


@dataclass(frozen=True)
class Config:
    r: int = 8
    first: int = 7
    last: int = 7
    dropout: float = 0.0
    finished: bool = False


class LoReFT(Insert[Config]):
    name = "loreft"
    params = {"R": Param("r d", init="normal:1.0"), "W": Param("r d", init="kaiming"), "b": Param("r")}
    targets = (r"re:(.*\.)?(layers|h|blocks?|encoder\.layer)\.\d+",)
    unmergeable = "positions"
    context = True
    identity = False
    averages = False  # of bases, which the mean of two is not
    rate = 9e-4

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        from torch.nn.functional import dropout, linear

        where = p.context.once(("ends", cfg.first, cfg.last), lambda: ends(p.context, cfg.first, cfg.last))
        R = p["R"] if cfg.finished else orthonormal(p["R"])
        change = (linear(h, p["W"], p["b"]) - linear(h, R)) @ R
        return dropout(change, cfg.dropout, p.training).where(where[..., None], 0)

    def finish(self, session: Session, adapter: Adapter) -> Adapter:
        rows = {f"{path}:R": orthonormal(adapter.at(path)["R"]) for path in adapter.targets}
        return super().finish(session, adapter.replace(tensors={**adapter.tensors, **rows}))


def orthonormal(R: Tensor) -> Tensor:
    """A basis of the rows of R, in its dtype; of half precision torch has no QR."""
    import torch

    wide = R if R.dtype in {torch.float32, torch.float64} else R.float()
    return cast("Tensor", torch.linalg.qr(wide.mT).Q.mT.to(R.dtype))


def ends(context: Context, first: int, last: int) -> Tensor:
    """(batch, tokens) of bool: the first and last tokens of each prompt; none behind a cache that is filled."""
    import torch

    real, at = context.real(), context.positions()
    if not torch.compiler.is_compiling() and real.shape[1] > 1 and bool(context.offset):
        raise PromptContinued(
            "`loreft` changes the last tokens of a prompt, and here one goes on that has begun in another call over "
            "the same cache; give it in one call"
        )
    real = real & context.prompted()
    text = ((at == 0) & real).long().cumsum(1)  # texts that are packed into one row begin anew
    length = torch.zeros_like(text).new_zeros(len(text), text.shape[1] + 1).scatter_add(1, text, real.long())
    left = length.gather(1, text) - 1 - at
    return real & ((at < first) | (left < last))
