"""GraLoRA: W' = W + s (D + Bg Ag), D of k by k blocks, each of rank r / k with factors of its own.  Jung et al. 2025,
arXiv:2505.20355.

With k = `split` and q = r / k, block (s, n) of outputs and inputs is (A[n][:, s q : (s+1) q] B[s][n q : (n+1) q])ᵀ:
D has rank k r, and s = alpha / (r + h). The `hybrid` part Bg Ag has rank h, 0 for none.

Choose it where LoRA of a higher rank stops getting better: parts of the input have factors of their own, so that a loud
part does not spoil the others. It has LoRA's numbers and somewhat more work; at low ranks plain LoRA does as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from adaptr import Delta, LowRank, Param, Target
from adaptr.contract import Live
from adaptr.errors import BadConfig


@dataclass(frozen=True)
class Config:
    r: int = 32
    split: int = 2
    hybrid: int = 0
    alpha: float = 64.0
    dropout: float = 0.0


class GraLoRA(Delta[Config]):
    name = "gralora"
    params = {
        "A": Param("split cols r", init="kaiming"),
        "B": Param("split r rows"),
        "Ag": Param("hybrid in", init="kaiming", when="hybrid"),
        "Bg": Param("out hybrid", when="hybrid"),
    }
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q", "attn.v")
    least = {"hybrid": 0}
    portable = True
    small = {"r": 4, "hybrid": 1, "alpha": 5.0}

    def delta(self, p: Live, cfg: Config) -> LowRank:
        """Row (n, s, i) of A' is column s q + i of A[n] at block n of the inputs; B' likewise."""
        import torch

        k, each = cfg.split, torch.eye(cfg.split, device=p["A"].device, dtype=p["A"].dtype)
        A = torch.einsum("nxj,nm->njmx", p["A"], each).reshape(k * cfg.r, -1)
        B = torch.einsum("snio,st->sonti", p["B"].reshape(k, k, cfg.r // k, -1), each).reshape(-1, k * cfg.r)
        if cfg.hybrid:
            A, B = torch.cat((A, p["Ag"])), torch.cat((B, p["Bg"]), 1)
        return LowRank(B, A, cfg.alpha / (cfg.r + cfg.hybrid))

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        out, into = target.shape
        odd = next((f"{what} of {size}" for what, size in (("rank", cfg.r), ("output", out), ("input", into))
                    if size % cfg.split), "")  # fmt: skip
        if odd:
            raise BadConfig("`gralora`: `split`", got=cfg.split, want=f"a divisor of the {odd} at `{target.path}`")
        return {"rows": out // cfg.split, "cols": into // cfg.split}
