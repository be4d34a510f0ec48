"""Uni-LoRA: W' = W + B A, all A and B of all layers picked out of one vector θ (d), which alone is trained.  Li et al.
2025, arXiv:2506.00799.

Each entry of A (r, in) and B (out, r) is θ_j / √n_j, n_j the number of entries that j is picked for: a projection that
keeps lengths. Which j an entry has is drawn from `seed` for all layers together, in the order of the model, A before B:
with another target all are others. So a layer knows its `offset` among `total` entries, and the draw, numpy's as in
PEFT, is checked against `sha256`. Not the identity when fresh, as nothing starts at zero.

Choose it where an adapter must be as small as can be for many layers: one vector for all. It computes what a LoRA of
its rank computes; adding a layer means training anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from adaptr import Delta, LowRank, Param, Target
from adaptr.contract import Live
from adaptr.errors import BadConfig, phrases

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    r: int = 4
    d: int = 256
    seed: int = 42
    dropout: float = 0.0
    rows: int = 1
    cols: int = 1
    offset: int = 0
    total: int = 1
    sha256: str = ""


#: Those drawn in this process, by seed, number and length.
_DRAWN: dict[tuple[int, int, int], tuple[Tensor, Tensor, str]] = {}


class UniLoRA(Delta[Config]):
    name = "unilora"
    params = {"theta": Param("d", init="uniform:0.02", shared=True)}
    kinds = frozenset({"linear", "linear_t"})
    targets = ("attn.q", "attn.v")
    least = {"r": 1, "seed": 0, "offset": 0, "rows": 1, "cols": 1, "total": 1}
    most = {"r": 2**16, "total": 2**32, "d": 2**32}  # what is drawn at once
    identity = False
    small = {"r": 2, "d": 20}
    sizes = {"rows": 0, "cols": 1}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        end = cfg.offset + cfg.r * sum(target.shape)
        if end > cfg.total:
            raise BadConfig(
                f"`unilora` at `{target.path}`: its entries", verb="end at", got=end, want=f"at most {cfg.total} of all"
            )
        return {}

    def delta(self, p: Live, cfg: Config) -> LowRank:
        theta, split = p["theta"], cfg.r * cfg.cols
        picked, root = picks(cfg)
        mine = (theta * root.to(theta.device))[picked.to(theta.device)]
        return LowRank(mine[split:].view(cfg.rows, cfg.r), mine[:split].view(cfg.r, cfg.cols))

    def together(self, model: nn.Module, targets: Sequence[Target]) -> Sequence[Target]:
        return placed(targets, checked=not next(model.parameters()).is_meta)


def placed(targets: Sequence[Target], checked: bool = True) -> list[Target]:
    """`targets`, all that there are in the order of the model, with their places among the entries; with the digest of
    the draw if it is to be `checked`.
    """
    sizes = [one.config["r"] * sum(one.shape) for one in targets]
    first, total = targets[0].config, sum(sizes)
    draw = {"total": total, "sha256": drawn(first["seed"], total, first["d"])[2] if checked else ""}
    places = [{"rows": t.shape[0], "cols": t.shape[1], "offset": sum(sizes[:n])} for n, t in enumerate(targets)]
    return [replace(one, config={**one.config, **draw, **own}) for one, own in zip(targets, places, strict=True)]


def picks(cfg: Config) -> tuple[Tensor, Tensor]:
    """Which entries of θ are A's, then B's, and 1 / √n of all of θ. Raises `DigestMismatch` for another draw."""
    every, root, found = drawn(cfg.seed, cfg.total, cfg.d)
    if cfg.sha256 and found != cfg.sha256:
        raise phrases.drawn_otherwise(
            f"`unilora`: the indices drawn from seed {cfg.seed}",
            found,
            cfg.sha256,
            "numpy may draw otherwise now: use the version that it was trained with",
        )
    return every[cfg.offset : cfg.offset + cfg.r * (cfg.rows + cfg.cols)], root


def drawn(seed: int, total: int, d: int) -> tuple[Tensor, Tensor, str]:
    """`total` indices below d, each as often as another or once more; 1 / √n of each; sha256 over them, int64."""
    if (seed, total, d) in _DRAWN:
        return _DRAWN[seed, total, d]
    import numpy as np
    import torch

    generator = np.random.default_rng(seed)
    even, rest = divmod(total, d)
    more = [generator.choice(d, size=rest, replace=False)] if rest else []
    every = np.concatenate([np.repeat(np.arange(d), even), *more]).astype(np.int64)
    generator.shuffle(every)
    made = torch.from_numpy(every)
    root = torch.bincount(made, minlength=d).clamp(min=1).float().rsqrt()
    return _DRAWN.setdefault((seed, total, d), (made, root, hashlib.sha256(every.tobytes()).hexdigest()))
