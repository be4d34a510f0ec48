"""Lin adapters: y = h + U relu(D LN(h) + b_d) + b_u behind each block, LN a norm of its own.  Lin, Madotto and Fung
2020, arXiv:2004.03829.

h is the output of the whole block, behind both of its sums. U starts at zero, so a fresh adapter is exactly the
identity; the authors' code starts it as a linear layer. They also trained the embeddings, with rows for tasks and
speakers that they had added: add `trainable-tokens` for those rows.

Choose it for decoders that generate, where one adapter a block, with a norm of its own, should keep what it reads in
range. It can't be merged, so that every token pays for it for good.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptr import Insert, Param, Target
from adaptr.contract import Costs, Live
from adaptr.families.insert import bottleneck, inner

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    m: int = 100
    activation: Literal["relu", "gelu", "gelu_new", "silu", "tanh"] = "relu"
    norm: Literal["layer", "rms"] = "layer"


class Lin(Insert[Config]):
    name = "lin"
    params = {
        "g": Param("d", init="ones"),
        "c": Param("d", when="norm=layer"),
        "D": Param("m d", init="normal:0.02"),
        "b_d": Param("m"),
        "U": Param("d m", init="zeros"),
        "b_u": Param("d"),
    }
    targets = ("block_out",)
    small = {"m": 8}

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        from torch.nn.functional import layer_norm, rms_norm

        z = layer_norm(h, h.shape[-1:], p["g"], p["c"]) if "c" in p else rms_norm(h, h.shape[-1:], p["g"], 1e-5)
        return bottleneck(z, p, cfg.activation)

    def costs(self, target: Target, cfg: Config) -> Costs:
        d = target.shape[0]
        return Costs(token=2 * d + inner(cfg.activation) * cfg.m, flops=4 * cfg.m * d)
