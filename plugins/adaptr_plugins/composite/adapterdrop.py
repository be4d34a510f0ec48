"""AdapterDrop: no adapter in layers 0 ... n - 1, n drawn for each step of training, or one n for good.  Rücklé et al.
2021, arXiv:2010.11918.

`inner`, `fields`: the method that is in the layers, with `targets` among its fields. `drop`: so many of the lowest
layers of each stack have none, in training and after it. With `robust` each step draws n between that and the last
layer, so that `drop` can be raised later: what is dropped is as if it were not there, and neither trained nor decayed
in that step. All processes draw alike. Merged where its method is, and the identity if that is.

Choose it where one text goes through many tasks' adapters, or training must be cheap: layers below the first adapter
are run once for all, and have no backward. In the paper five of twelve cost three to five points of a hundred. Where
each layer is needed it fails, and with `robust` all of them learn more slowly.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from adaptr import Composite, Target
from adaptr.adapter.weighting import Layers
from adaptr.contract import Capabilities, Member
from adaptr.errors import BadConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter
    from adaptr.contract import Run
    from adaptr.families.base import Method
    from adaptr.host import Session
    from adaptr.targets import Spec


@dataclass(frozen=True)
class Config:
    inner: str = "pfeiffer"
    fields: dict[str, Any] = field(default_factory=dict)
    drop: int = 0
    robust: bool = True


class AdapterDrop(Composite[Config]):
    name = "adapterdrop"
    least = {"drop": 0}
    skips = True
    possible = "keep it attached, or take an `inner` that can be merged"
    small = {"fields": {"m": 8}}

    def parts(self, cfg: Config) -> Mapping[str, tuple[str, Spec, Mapping[str, Any]]]:
        own = {key: value for key, value in cfg.fields.items() if key != "targets"}
        return {cfg.inner: (cfg.inner, cfg.fields.get("targets"), own)}

    def capabilities(self) -> Capabilities:
        return super(Composite, self).capabilities()  # what is inside says the rest

    def members(self, adapter: Adapter) -> list[Member]:
        above = functools.partial(_stands, _layers(adapter), self.config(adapter.config).drop)
        return [member._replace(strength=above) for member in super().members(adapter)]

    # ------------------------------------------------------------ a fresh one has nothing in what is dropped for good

    def begun(self, model: nn.Module, adapter: Adapter, seed: int) -> Adapter:
        (name,), drop = adapter.parts, adapter.config["drop"]
        kept = self._kept([target for _, target in adapter.all_targets], drop)
        part = adapter.part(name)
        paths = {target.path for target in kept}
        tensors = {key: t for key, t in part.tensors.items() if key.rpartition(":")[0] in {"", *paths}}
        left = {path: target for path, target in part.targets.items() if path in paths}
        return adapter.with_parts({name: part.replace(targets=left, tensors=tensors)})

    def outline(
        self, model: nn.Module, targets: Spec = None, config: Mapping[str, Any] | None = None
    ) -> list[tuple[Method, Target]]:
        found = super().outline(model, targets, config)
        kept = self._kept([target for _, target in found], self.config(config or {}).drop)
        return [(method, target) for method, target in found if target in kept]

    def _kept(self, targets: Sequence[Target], drop: int) -> list[Target]:
        layers = Layers(target.path for target in targets)
        kept = [target for target in targets if _stands(layers, drop, target.path)]
        if not kept:
            raise BadConfig(f"`{self.name}`: `drop`", got=drop, want=f"at most {layers.last}, or no layer is left")
        return kept

    # ------------------------------------------------------------ training

    def objective(self, session: Session, run: Run) -> Tensor:
        """The loss with what this step drops left out, until the step is taken: blocks may be computed anew."""
        cfg, layers = self.config(session.adapter.config), _layers(session.adapter)
        if cfg.robust:
            drop = random.Random(session.steps).randint(cfg.drop, layers.last)
            session.weigh(functools.partial(_stands, layers, drop))
        return super().objective(session, run)

    def after_step(self, session: Session) -> None:
        session.weigh(lambda path: 1.0)


def _layers(adapter: Adapter) -> Layers:
    return Layers(target.path for _, target in adapter.all_targets)


def _stands(layers: Layers, drop: int, path: str) -> float:
    """1 where a path is in none of the dropped layers, else 0."""
    number = layers.number(path)
    return float(number is None or number >= drop)
