"""LT-SFT: W' = W + S, S zero but at the places that moved most in a first training.  Ansell et al. 2022,
arXiv:2110.07560.

All numbers of the targets are trained, and whole parameters beside them (`also=`); the `share` that moved most, of all
together, is chosen, everything is set back, and these alone are trained anew. When that is finished, a target has its
values v and their places i, counted row by row, and a parameter of which nothing was chosen is left out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Delta, Dense, Operator, Param, Sparse, Target
from adaptr.contract import Group, Live, Phase
from adaptr.contract.lifecycle import MASK

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.host import Session


@dataclass(frozen=True)
class Config:
    share: float = 0.01
    l1: float = 0.0
    n: int = 0
    rows: int = 1
    cols: int = 1
    finished: bool = False


class LTSFT(Delta[Config]):
    name = "lt-sft"
    params = {
        "D": Param("out in", unless="finished"),
        "v": Param("entries", when="finished"),
        "i": Param("entries", init="custom", when="finished", trains=False),
    }
    kinds = frozenset({"linear", "linear_t", "embedding"})
    targets = ("all-linear",)
    rate = 5e-5

    def delta(self, p: Live, cfg: Config) -> Operator:
        return Sparse(p["i"], p["v"], (cfg.rows, cfg.cols)) if cfg.finished else Dense(p["D"])

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "rows": target.shape[0], "cols": target.shape[1]}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        return {"entries": cfg.n}

    # ------------------------------------------------------------ training

    def phases(self, cfg: Config) -> Sequence[Phase]:
        return Phase("full"), Phase("sparse")

    def groups(self, session: Session) -> list[Group]:
        return [Group(list(session.parameters()), decay=0.0)]

    def begin(self, session: Session, phase: str) -> None:
        """Choose the places that moved most of all, and set everything back."""
        import torch

        moved = {key: self._moved(session, key) for key in session.named()}
        flat = torch.cat([change.abs().flatten() for change in moved.values()])
        count = max(1, round(self.config(session.adapter.config).share * len(flat)))
        chosen = torch.zeros(len(flat), dtype=torch.bool)
        chosen[flat.sort(descending=True, stable=True).indices[:count]] = True
        entries = chosen.split([change.numel() for change in moved.values()])
        for (key, change), mine in zip(moved.items(), entries, strict=True):
            with torch.no_grad():
                session.named()[key].sub_(change)
            session.mask(key, mine.view(change.shape))

    def penalty(self, session: Session) -> Tensor | float:
        """λ times the mean of what has moved."""
        l1 = self.config(session.adapter.config).l1
        if not l1:
            return 0.0
        moved = [self._moved(session, key) for key in session.named()]
        return l1 * sum(change.abs().sum() for change in moved) / sum(change.numel() for change in moved)

    def _moved(self, session: Session, key: str) -> Tensor:
        path, _, name = key.rpartition(":")
        now = session.named()[key]
        return now - session.below(path) if name == "=" else now

    def finish(self, session: Session, adapter: Adapter) -> Adapter:
        tensors, targets = dict(adapter.tensors), {}
        for path, target in adapter.targets.items():
            D = adapter.at(path)["D"].flatten()
            places = session.memory.get(f"{path}:D{MASK}", D != 0).flatten().nonzero()[:, 0]
            tensors |= {f"{path}:i": places, f"{path}:v": D[places]} if len(places) else {}
            targets[path] = dataclasses.replace(target, config={**target.config, "n": len(places)})
        gone = {path for path, target in targets.items() if not target.config["n"]}
        gone |= {key.removesuffix(f":={MASK}") for key, mask in session.memory.items() if not mask.any()}
        kept = {key: tensor for key, tensor in tensors.items() if key.rpartition(":")[0] not in gone}
        left = {path: target for path, target in targets.items() if path not in gone}
        return super().finish(session, adapter.replace(tensors=kept, targets=left))
