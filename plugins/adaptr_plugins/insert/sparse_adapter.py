"""SparseAdapter: y = h + (M_U * U) relu((M_D * D) LN(h + r) + b_d) + b_u, M zero where little matters at the start.
He et al. 2022, arXiv:2210.04284.

A `pfeiffer` adapter of whose weights a share `sparsity` is zero from the first step on: those with the lowest `score`
over all places, once, before training, biases left alone. `snip`: |w ∂L/∂w|, `grasp`: w (H g), as the authors' code has
it, both over some first batches without dropout; `magnitude`: |w|; `random`. The paper's Large-Sparse is an `m` of 2, 3
and 4 times at a `sparsity` of 0.5, 0.67 and 0.75. Place it at `attn_out` too for what it does to `houlsby`. A finished
file holds the weights that are left and one bit for each that was there.

Choose it where the file counts: with as many numbers kept, a wide one does better than a narrow dense one in the paper.
No token is faster for it, as products are of whole matrices, and it can't be merged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Param, Target
from adaptr.contract import Costs, Live
from adaptr.contract.lifecycle import MASK
from adaptr.errors import BadConfig
from adaptr.families.insert import activation
from adaptr_plugins.insert import _sums
from adaptr_plugins.insert._bits import packed, require_set, unpacked, words
from adaptr_plugins.insert._saliency import Score, left, scores

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr import Adapter
    from adaptr.contract import Run
    from adaptr.host import Session


@dataclass(frozen=True)
class Config(_sums.Config):
    """`n`: how many weights are left at a target that is finished, those of D before those of U."""

    sparsity: float = 0.4
    score: Score = "snip"
    seed: int = 0
    n: int = 0
    finished: bool = False


class SparseAdapter(_sums.OfSum[Config]):
    name = "sparse-adapter"
    params = {
        "D": Param("m d", init=_sums.NEAR, unless="finished"),
        "b_d": Param("m"),
        "U": Param("d m", init=_sums.NEAR, unless="finished"),
        "b_u": Param("d"),
        "w": Param("n", when="finished"),
        "bits": Param("words", when="finished", trains=False, whole=True),
    }
    least = {"n": 0}
    averages = False  # of other places
    small = {"m": 8, "score": "magnitude"}

    def config(self, values: Mapping[str, Any]) -> Config:
        cfg = super().config(values)
        if not 0 <= cfg.sparsity < 1:
            raise BadConfig(f"`{self.name}`: `sparsity`", got=cfg.sparsity, want="at least 0 and below 1")
        if cfg.init == "zero_up" and cfg.score != "random":
            raise BadConfig(
                f"`{self.name}`: scores vanish where U starts at zero",
                hint='say `init="normal"`, or take `score="random"`',
            )
        return cfg

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        return {"words": words(2 * cfg.m * target.shape[0])}

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        D, U = self._whole(p, h.shape[-1], cfg) if cfg.finished else (p["D"], p["U"])
        return activation(cfg.activation)(self.read(h, x, p, cfg) @ D.T + p["b_d"]) @ U.T + p["b_u"]

    def _whole(self, p: Live, d: int, cfg: Config) -> tuple[Tensor, Tensor]:
        """D (m, d) and U (d, m) of what is left of them."""

        def make() -> Tensor:
            kept = unpacked(p["bits"], 2 * cfg.m * d)
            require_set(kept, len(p["w"]), f"`{self.name}` at `{p.place}`")
            return p["w"].new_zeros(len(kept)).masked_scatter(kept, p["w"])

        D, U = p.derived("whole", p.sources(1.0), make).chunk(2)
        return D.view(cfg.m, d), U.view(d, cfg.m)

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        return None if cfg.finished else super().costs(target, cfg)

    # ------------------------------------------------------------ training

    def prepare(self, session: Session, data: Iterable[Run]) -> None:
        """Prune, of all places together; weights that are gone are zero and stay so."""
        weights = {state.key(name): state[name] for state in session.states.values() for name in "DU" if name in state}
        cfg, training = self.config(session.adapter.config), session.model.training
        if not weights:
            return
        session.model.eval()
        found = scores(cfg.score, weights, data, cfg.seed)
        session.model.train(training)
        for key, mask in left(found, 1 - cfg.sparsity).items():
            path, _, name = key.rpartition(":")
            session.put(path, name, weights[key].detach() * mask)
            session.mask(key, mask)

    def finish(self, session: Session, adapter: Adapter) -> Adapter:
        import torch

        tensors, targets = dict(adapter.tensors), dict(adapter.targets)
        for path, target in adapter.targets.items():
            if target.config["finished"]:
                continue
            both = {f"{path}:{name}": tensors.pop(f"{path}:{name}") for name in "DU"}
            masks = [session.memory.get(key + MASK, w != 0).to(w.device).flatten() for key, w in both.items()]
            flat, mask = torch.cat([w.flatten() for w in both.values()]), torch.cat(masks)
            tensors |= {f"{path}:w": flat[mask], f"{path}:bits": packed(mask)}
            targets[path] = dataclasses.replace(target, config={**target.config, "n": int(mask.sum())})
        return super().finish(session, adapter.replace(tensors=tensors, targets=targets))
