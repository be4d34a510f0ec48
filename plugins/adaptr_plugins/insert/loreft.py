"""LoReFT: h' = h + Rᵀ (W h + b - R h) at the first and last tokens of the prompt, R with orthonormal rows.  Wu et al.
2024, arXiv:2404.03592.

At the outputs of blocks, at the `first` and `last` tokens, by one set of tensors or, without `share_weights`, by one
for each end; where both meet it is the first's. R (r, d) is made orthonormal by a QR of what is trained, and stored so
when training is finished. Padding is no token, each of several texts packed into a row has its own ends, and what is
generated has none. Where there is no text, in images and sounds, all that a block puts out is one. Fresh it is not the
identity, as in the paper: W starts as a linear layer does, R as a random basis. Dropout is of what is added, where the
authors' code has it of h'. The rate is the paper's for commonsense ([M]).

Choose it for the fewest numbers of all that change a decoder: a tenth of LoRA's, and no token that is generated costs
anything. It works through the prompt alone, so that it teaches how to answer better than what; it can't be merged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from adaptr.contract import Live
from adaptr_plugins.insert import _reft

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr import Adapter
    from adaptr.host import Session


@dataclass(frozen=True)
class Config(_reft.Config):
    finished: bool = False


class LoReFT(_reft.Reft[Config]):
    name = "loreft"
    params = _reft.table("R", "W", init="normal:1.0")
    basis = 4

    def change(self, h: Tensor, p: Live, cfg: Config, suffix: str) -> Tensor:
        from torch.nn.functional import linear

        R = p[f"R{suffix}"]
        R = R if cfg.finished else orthonormal(R)
        return (linear(h, p[f"W{suffix}"], p[f"b{suffix}"]) - linear(h, R)) @ R

    def finish(self, session: Session, adapter: Adapter) -> Adapter:
        made = {
            key: orthonormal(t)
            for key, t in adapter.tensors.items()
            if key.endswith((":R", ":R_s")) and not adapter.targets[key.rpartition(":")[0]].config["finished"]
        }
        return super().finish(session, adapter.replace(tensors={**adapter.tensors, **made}))


def orthonormal(R: Tensor) -> Tensor:
    """A basis of the rows of R, in its dtype; of half precision torch has no QR."""
    import torch

    wide = R if R.dtype in {torch.float32, torch.float64} else R.float()
    return cast("Tensor", torch.linalg.qr(wide.mT).Q.mT.to(R.dtype))
