"""BD-LoRA: W' = W + s B A, one of the two block-diagonal.  Authors not confirmed, 2025, OpenReview 1cjLvtFOmL.

So that machines which share a model by columns, or by rows, each compute their part of the change alone. `side`: which
factor has the blocks; `auto` gives outputs of attention and of the feed-forward, which are split by their inputs, an A
in blocks and all others a B. A is stored as (r, in / blocks), B as (out, r / blocks): block i is the i-th of the rows.
A begins √6 as wide as LoRA's, as in PEFT.

Choose it where the model is served in parts by several machines that should not talk for the adapter's sake. Blocks see
only their part of the input, so that at the same rank it learns less than LoRA, and on one machine there is no reason
for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from adaptr import LowRank, Param, Target
from adaptr.contract import Costs, Live
from adaptr.errors import BadConfig
from adaptr_plugins.delta import _factors

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config(_factors.Config):
    blocks: int = 2
    side: Literal["auto", "A", "B", "none"] = "auto"


class BDLoRA(_factors.Factors[Config]):
    name = "bd-lora"
    params = {
        "A": Param("r wide", init="kaiming"),
        "B": Param("rows high"),
        "b": Param("out", when="bias"),
    }
    kinds = frozenset({"linear", "linear_t"})
    small = {"r": 2, "alpha": 2.0}

    def delta(self, p: Live, cfg: Config) -> LowRank:
        whole = {name: p[name] for name in "AB"}
        if cfg.side in whole:
            one = p[cfg.side]
            whole[cfg.side] = p.derived(cfg.side, (one,), lambda: spread(one, cfg.blocks))
        return LowRank(whole["B"], whole["A"], self.scale(cfg))

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        from adaptr import roles

        last = any(roles.has(target.path, role) for role in ("attn.o", "mlp.down"))
        auto = values.get("side", "auto") == "auto"
        return {**values, **({"side": "A" if last else "B"} if auto else {})}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        wide, high, n = target.shape[1], cfg.r, cfg.blocks
        split = {"A": (wide, cfg.r), "B": (target.shape[0], cfg.r)}.get(cfg.side, ())
        if n < 1 or any(size % n for size in split):
            raise BadConfig(f"`bd-lora` at `{target.path}`: `blocks`", got=n, want=f"a divisor of {split}")
        return {
            "rows": target.shape[0],  # and not `out`: where a row has its numbers depends on how many there are
            "wide": wide // n if cfg.side == "A" else wide,
            "high": high // n if cfg.side == "B" else high,
        }

    def init_rule(self, param: str, target: Target) -> str:
        if param != "A":
            return self.params[param].init
        return f"kaiming:{self.axes(target, self.config(target.config))['wide'] / 6}"

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        both = sum(target.shape)
        return None if cfg.dropout else Costs(True, token=cfg.r, once=cfg.r * max(target.shape), flops=2 * cfg.r * both)


def spread(rows: Tensor, n: int) -> Tensor:
    """(a, b) to (a, n b): the i-th of n blocks of rows at the i-th block of columns, zeros elsewhere."""
    import torch

    made: Tensor = torch.block_diag(*rows.chunk(n))  # type: ignore[no-untyped-call]
    return made
