"""EVA: W' = W + s B A, A beginning with the principal components of what the layer is given.  Paischer et al. 2024,
arXiv:2410.07170.

The first batches of training are looked at before it begins, filled-up tokens aside; B begins at zero, so that nothing
is changed by that. The ranks, r of a target on average, go where components explain most, to at most `rho` r of a
target; what has none is left out. Until training is over there is room for `rho` r everywhere; 1 leaves all at r. s is
`alpha` / r wherever ranks go. `whiten`: divide each component by the root of its singular value. Without data to look
at, A is as LoRA's.

Choose it where the rank is scarce and the data is at hand: ranks go where the inputs vary most, and what comes out is a
plain LoRA. It costs a look at some batches before training, and room for `rho` times the rank until it ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adaptr import Param, Target
from adaptr.contract import Costs
from adaptr_plugins.delta import _factors, _looking
from adaptr_plugins.delta._components import Components

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter
    from adaptr.contract import Run
    from adaptr.host import Session


@dataclass(frozen=True)
class Config(_factors.Config):
    rho: float = 2.0
    whiten: bool = False

    @property
    def most(self) -> int:
        return max(int(self.r * self.rho), 1)


class EVA(_factors.Plain[Config]):
    name = "eva"
    params = {
        "A": Param("most in", init="kaiming"),
        "B": Param("out most"),
        "b": Param("out", when="bias"),
    }
    kinds = frozenset({"linear", "linear_t"})
    least = {"r": 1, "rho": 1}
    small = {"r": 2, "alpha": 2.0, "rho": 1.5}

    def axes(self, target: Target, cfg: Config) -> dict[str, int]:
        return {"most": min(cfg.most, target.shape[1])}  # inputs have no more directions

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        return super().costs(target, dataclasses.replace(cfg, r=self.axes(target, cfg)["most"]))

    def prepare(self, session: Session, data: Iterable[Run]) -> None:
        import torch

        configs = {path: self.config(target.config) for path, target in session.adapter.targets.items()}
        most = {path: self.axes(session.adapter.targets[path], cfg)["most"] for path, cfg in configs.items()}
        found: dict[str, Components] = {}

        def see(path: str, x: Tensor) -> None:
            found.setdefault(path, Components(most[path])).see(x)

        _looking.inputs(session, data, see)
        for path, k in shared(found, sum(configs[path].r for path in found)).items():
            one, A = found[path], torch.zeros(most[path], session.adapter.targets[path].shape[1])
            assert one.values is not None
            assert one.directions is not None
            over = one.values.sqrt() if configs[path].whiten else torch.ones_like(one.values)
            A[:k] = (one.directions / over[:, None])[:k]
            session.put(path, "A", A)

    def finish(self, session: Session, adapter: Adapter) -> Adapter:
        """Each target with the rank that it got."""
        made, targets, tensors = super().finish(session, adapter), {}, dict(adapter.tensors)
        for path, target in made.targets.items():
            rows, cfg = tensors[f"{path}:A"].any(1), self.config(target.config)
            k = int(rows.sum())
            said = {"r": k, "alpha": cfg.alpha * ((k / cfg.r) ** (0.5 if cfg.rslora else 1.0)), "rho": 1.0}
            own = {f"{path}:A": tensors.pop(f"{path}:A")[rows], f"{path}:B": tensors.pop(f"{path}:B")[:, rows]}
            if k:
                targets[path] = dataclasses.replace(target, config={**target.config, **said})
                tensors |= {key: tensor.contiguous() for key, tensor in own.items()}
            else:
                tensors.pop(f"{path}:b", None)
        return made.replace(targets=targets, tensors=tensors)


def shared(found: Mapping[str, Components], budget: int) -> dict[str, int]:
    """How many of the `budget` components that explain most are of each path."""
    every = sorted(((-float(share), path) for path, one in found.items() for share in one.shares), key=lambda x: x[0])
    ranks = dict.fromkeys(found, 0)
    for _, path in every[:budget]:
        ranks[path] += 1
    return ranks
