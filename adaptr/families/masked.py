"""Masked methods: W' = W + D, D dense while it is trained, and zero but at a few places when that is finished.

What a subclass says is when, and by which scores, the places are chosen: `choose` lets those with the highest scores
learn, of all the targets together. Of equals the first counts, in the order of the targets, each in C order.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from adaptr.adapter import kinds
from adaptr.algebra.dense import Dense
from adaptr.algebra.sparse import Sparse, require_places
from adaptr.contract import Group, Live, Param
from adaptr.contract.lifecycle import MASK
from adaptr.errors import BadConfig
from adaptr.families.delta import Delta

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter, Target
    from adaptr.algebra.operator import Operator
    from adaptr.host import Session


@dataclass(frozen=True)
class Masking:
    """`share`: of the numbers at the targets that are kept. The others follow: how many, of which shape."""

    share: float = 0.005
    n: int = 0
    sizes: list[int] = field(default_factory=list)
    finished: bool = False


M = TypeVar("M", bound=Masking)


class Masked(Delta[M]):
    """The configuration of a subclass has the fields of `Masking`."""

    params: ClassVar[Mapping[str, Param]] = {
        "D": Param("*e out *i *k", unless="finished"),
        "v": Param("entries", when="finished"),
        "i": Param("entries", init="custom", when="finished", trains=False, whole=True),
    }
    family: ClassVar[str] = "select"
    formulas: ClassVar[tuple[str, ...]] = ()
    kinds: ClassVar[frozenset[str]] = kinds.WEIGHTED
    targets: ClassVar[tuple[str, ...]] = ("all-linear",)
    as_stored: ClassVar[bool] = True
    rate: ClassVar[float] = 5e-5

    def config(self, values: Mapping[str, Any]) -> M:
        cfg = super().config(values)
        if not 0 < cfg.share <= 1:
            raise BadConfig(f"`{self.name}`: `share`", got=cfg.share, want="above 0, at most 1")
        return cfg

    def delta(self, p: Live, cfg: M) -> Operator:
        if not cfg.finished:
            return Dense(p["D"])
        require_places(p["i"], math.prod(cfg.sizes), self.name)
        return Sparse(p["i"], p["v"], tuple(cfg.sizes))

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return {**values, "sizes": list(target.shape)}

    def axes(self, target: Target, cfg: M) -> dict[str, int]:
        return {"entries": cfg.n}

    def changes(self, target: Target, cfg: M) -> int:
        """A share is of all together: at a target that is not finished, on average."""
        kept: int = cfg.n if cfg.finished else round(cfg.share * math.prod(target.shape))
        return kept

    # ------------------------------------------------------------ training

    def groups(self, session: Session) -> list[Group]:
        """No decay: what is masked would shrink."""
        return [Group(list(session.parameters()), decay=0.0)]

    def choose(self, session: Session, scores: Mapping[str, Tensor], count: int) -> None:
        """Let the `count` entries with the highest scores learn, and no others of these tensors."""
        import torch

        flat = torch.cat([score.detach().float().flatten() for score in scores.values()])
        order = flat.sort(descending=True, stable=True).indices
        chosen = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
        chosen[order[: max(1, count)]] = True
        parts = torch.split(chosen, [score.numel() for score in scores.values()])
        for (key, score), mine in zip(scores.items(), parts, strict=True):
            session.mask(key, mine.view(score.shape))

    def finish(self, session: Session, adapter: Adapter) -> Adapter:
        """Values and places of what was kept; targets and whole parameters of which nothing was are left out."""
        tensors, targets = dict(adapter.tensors), {}
        for path, target in adapter.targets.items():
            if target.config["finished"]:
                targets[path] = target
                continue
            D = tensors.pop(f"{path}:D").flatten()
            mask = session.memory.get(f"{path}:D{MASK}", D != 0).flatten().to(D.device)
            places = mask.nonzero()[:, 0]
            tensors |= {f"{path}:i": places, f"{path}:v": D[places]}
            targets[path] = dataclasses.replace(target, config={**target.config, "n": len(places)})
        gone = {path for path, target in targets.items() if not target.config["n"]}
        gone |= {key.removesuffix(f":={MASK}") for key, mask in session.memory.items() if not mask.any()}
        kept = {key: tensor for key, tensor in tensors.items() if key.rpartition(":")[0] not in gone}
        left = {path: target for path, target in targets.items() if path not in gone}
        return super().finish(session, adapter.replace(tensors=kept, targets=left))
