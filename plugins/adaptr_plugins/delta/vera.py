"""VeRA: W' = W + diag(b) B diag(d) A, with A and B random, frozen and shared by all layers.  Kopiczko et al. 2023,
arXiv:2310.11454.

A is (r, in_max) and B (out_max, r) for the largest layer; smaller ones take A[:, :width] and B[:out]. Both are
He-uniform, drawn again from `seed` whenever they are needed, by a generator whose stream never changes, and checked
against `sha256`; only d and b are stored. Files of other tools bring their own (`stored`). Fresh, b is zero and d is
`d_initial`.

Choose it where very many adapters of one base are stored: two vectors a layer. It wants a rate ten times LoRA's or more
and a rank of hundreds, so that it is slower than LoRA before it is merged, and short trainings bring it less far.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import LowRank, Param, Target, View
from adaptr.contract import Costs, Live
from adaptr_plugins.delta import _drawn
from adaptr_plugins.delta._drawn import Drawn, Pair

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.contract.view import Call


@dataclass(frozen=True)
class Config(_drawn.Config):
    r: int = 256
    d_initial: float = 0.1
    width: int = 1


class VeRA(Drawn[Config]):
    name = "vera"
    params = {
        "A": Param("r in_max", init="custom", when="stored", trains=False, shared=True),
        "B": Param("out_max r", init="custom", when="stored", trains=False, shared=True),
        "d": Param("r", init="fill"),
        "b": Param("out"),
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("all-linear",)
    kept_within = 0.1  # the matrices between its vectors, which are there once whatever the forward
    sizes = {"width": 1}
    portable = True

    def delta(self, p: Live, cfg: Config) -> LowRank:
        A, B = self.projections(p, cfg)
        d, b = p["d"], p["b"]
        A, B = A.to(d.device), B.to(d.device)
        return LowRank(b.unsqueeze(-1) * B[: len(b)], d.unsqueeze(-1) * A[:, : cfg.width])

    def pair(self, cfg: Config) -> Pair:
        return Pair((cfg.r, cfg.in_max), (cfg.out_max, cfg.r), ((6 / cfg.in_max) ** 0.5, (6 / cfg.r) ** 0.5))

    def live(self, base: View, p: Live, cfg: Config, weight: float, call: Call) -> Call:
        if base.plain is None or cfg.dropout or weight != 1.0:
            return call
        from adaptr.algebra.fused import between

        def forward(x: Tensor) -> Tensor:
            A, B = self.projections(p, cfg)
            d, b = p["d"], p["b"]
            found = between(base, x, A.to(d.device)[:, : cfg.width], B.to(d.device)[: len(b)], d, b)
            return call(x) if found is None else found

        return forward

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        """A x, and B (d ∘ A x), are kept."""
        out = target.shape[0]
        return None if cfg.dropout else Costs(token=cfg.r + out, flops=2 * cfg.r * sum(target.shape))

    def init_rule(self, param: str, target: Target) -> str:
        return f"fill:{target.config['d_initial']}" if param == "d" else super().init_rule(param, target)

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "width": target.shape[1]}
