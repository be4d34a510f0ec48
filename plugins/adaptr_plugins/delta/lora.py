"""LoRA: W' = W + s B A, s = alpha / r, or alpha / sqrt(r) with `rslora`.  Hu et al. 2021, arXiv:2106.09685.

On look-up tables the roles of the factors are swapped at the start (A zero, B normal), so that the factor that is
looked up is the zero one. Expert stacks have one pair for each expert. `rslora`: Kalajdzievski 2023, arXiv:2312.03732.
With `tucker` A of a convolution is a core t (r, r, *k) before d (r, in), as LyCORIS has it (arXiv:2309.14859): larger
kernels cost r² numbers for each place in them and not r times the inputs. Where the kernel is one place there is none.

Choose it first: every tool and server knows it, it merges, composes, and costs nothing once it is merged. It falls
behind full fine-tuning where much new has to be learnt at once; then raise the rank (`rslora` beyond 32) before you
change the method, and search the rate before the rank.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

from adaptr import LowRank, Param, Target
from adaptr.adapter import kinds
from adaptr.adapter.tensors import Wide
from adaptr.contract import Live
from adaptr.contract.capabilities import LOW_RANK
from adaptr.errors import Unsupported
from adaptr_plugins.delta import _factors

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Operator


@dataclass(frozen=True)
class Config(_factors.Config):
    tucker: bool = False


class LoRA(_factors.Plain[Config]):
    name = "lora"
    params = {
        **_factors.Plain.params,
        "A": replace(_factors.Plain.params["A"], unless="tucker"),
        "t": Param("r r *k", init="kaiming", when="tucker"),
        "d": Param("r in", init="kaiming", when="tucker"),
    }
    forms = frozenset({LOW_RANK})
    default_for = frozenset({LOW_RANK})

    def delta(self, p: Live, cfg: Config) -> LowRank:
        if not cfg.tucker:
            return super().delta(p, cfg)
        wide = Wide(p)
        from adaptr_plugins.delta.loha import through

        return LowRank(wide["B"], through(wide["t"], wide["d"]), self.scale(cfg))

    def factors(self, cfg: Config) -> tuple[str, str, float] | None:
        return None if cfg.tucker else super().factors(cfg)

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        found = super().at_target(model, target, values)
        return {**found, "tucker": bool(found.get("tucker")) and prod(_kernel(target)) > 1}

    def supports(self, target: Target) -> None:
        super().supports(target)
        if target.config.get("tucker") and not _kernel(target):
            raise Unsupported(
                f"`{target.path}` has no kernel, over which a core (`tucker`) of a LoRA could go",
                hint="leave `tucker` out there",
            )

    def written(self, op: Operator | None, bias: Tensor | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Scales go into B: alpha is the rank."""
        assert op is not None
        low = op.low_rank()
        r = low.A.shape[1 if low.experts else 0]
        A, B = low.A.to(low.dtype), low.B.to(low.dtype)
        tensors = {"A": A.contiguous(), "B": (B if low.scale == 1.0 else B * low.scale).contiguous()}
        config = {"r": r, "alpha": float(r), "bias": bias is not None}
        return config, tensors if bias is None else {**tensors, "b": bias}


def _kernel(target: Target) -> tuple[int, ...]:
    return target.shape[2:] if target.kind in kinds.CONVOLUTIONS else ()
