"""LoKr: W' = W + s w1 ⊗ w2, s = alpha / r.  Yeh et al. 2023, arXiv:2309.14859.

w1 is (a, c) and w2 (b, d, *k), with out = a b and in = c d. w2 is w2_a w2_b where r is below half of its larger side,
or with `tucker` a core t2 (r, r, *k) between w2_a (b, r) and d2 (r, d); w1 is w1_a w1_b with `decompose_both`, by the
same rule. The sizes are stored and never derived from `factor` again: rules for that differ between tools. Fresh, w1
(or w1_a) is zero.

Choose it where the file must be very small and the rank must not: for image models, and for many adapters of one base.
It repeats one small pattern over the whole weight; what is no such pattern it learns slowly, and it wants a higher rate
than LoRA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Delta, Dense, Kron, LowRank, Operator, Param, Target
from adaptr.contract import Live
from adaptr.errors import ShapeError
from adaptr_plugins.delta.loha import through

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Config:
    r: int = 8
    alpha: float = 8.0
    factor: int = -1
    decompose_both: bool = False
    tucker: bool = False
    a: int = 1
    b: int = 1
    c: int = 1
    d: int = 1
    w1_full: bool = True
    w2_full: bool = True


class LoKr(Delta[Config]):
    name = "lokr"
    params = {
        "w1": Param("a c", when="w1_full"),
        "w1_a": Param("a r", unless="w1_full"),
        "w1_b": Param("r c", init="kaiming", unless="w1_full"),
        "w2": Param("b d *k", init="kaiming", when="w2_full"),
        "w2_a": Param("b r", init="kaiming", unless="w2_full"),
        "w2_b": Param("r d *k", init="kaiming", unless="w2_full tucker"),
        "t2": Param("r r *k", init="kaiming", when="tucker", unless="w2_full"),
        "d2": Param("r d", init="kaiming", when="tucker", unless="w2_full"),
    }
    kinds = frozenset({"linear", "linear_t", "embedding", "conv1d", "conv2d", "conv3d"})
    targets = ("all-linear",)
    portable = True

    def delta(self, p: Live, cfg: Config) -> Kron:
        w1: Operator = Dense(p["w1"]) if cfg.w1_full else LowRank(p["w1_a"], p["w1_b"])
        return Kron(w1, Dense(p["w2"]) if cfg.w2_full else self.right(p, cfg), cfg.alpha / cfg.r)

    def right(self, p: Live, cfg: Config) -> LowRank:
        B = p["w2_a"]
        A = through(p["t2"], p["d2"]) if cfg.tucker else p["w2_b"]
        return LowRank.of(B, A.flatten(1), (len(B), *A.shape[1:]))

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        cfg = self.config(values)
        a, b = factors(target.shape[0], cfg.factor)
        c, d = factors(target.shape[1], cfg.factor)
        w1_full = not (cfg.decompose_both and cfg.r < max(a, c) / 2)
        sizes = {"a": a, "b": b, "c": c, "d": d, "w1_full": w1_full, "w2_full": cfg.r >= max(b, d) / 2}
        return {**values, **sizes}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        found, want = (cfg.a * cfg.b, cfg.c * cfg.d), target.shape[:2]
        if found != want:
            raise ShapeError(
                f"`lokr`: the factors at `{target.path}`",
                verb="are",
                got=f"{cfg.a} by {cfg.c} and {cfg.b} by {cfg.d}, which gives {found[0]} by {found[1]}",
                want=f"{want[0]} by {want[1]}, as the weight is",
            )
        return {}


def factors(n: int, most: int) -> tuple[int, int]:
    """n as m times n/m: (`most`, n / `most`) if `most` divides n, else the m nearest to √n, at most `most`, and smaller
    first. -1 is no limit.
    """
    if most > 0 and n % most == 0:
        return most, n // most
    limit = n if most <= 0 else most
    m = max(m for m in range(1, int(n**0.5) + 1) if n % m == 0 and m <= limit)
    return m, n // m
