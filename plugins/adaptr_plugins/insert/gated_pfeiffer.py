"""Gated bottleneck: y = h + σ(g z + c) (U relu(D z + b_d) + b_u), UniPELT's part after the feed-forward.  Mao et al.
2022, arXiv:2110.07577.

z is what `pfeiffer` reads. The gate is of a text or of a token as that of `gated-lora`.

Choose it in `unipelt`, or where a bottleneck should be on for some inputs alone. It costs what `pfeiffer` costs, and it
can't be merged either.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr import Target
from adaptr.contract import Costs, Live, Mount
from adaptr.families.insert import bottleneck
from adaptr_plugins.insert import _gated, _sums
from adaptr_plugins.insert._gated import Of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr import Adapter


@dataclass(frozen=True)
class Config(_sums.Config):
    of: Of = "auto"


class GatedPfeiffer(_sums.OfSum[Config]):
    name = "gated-pfeiffer"
    small = {"m": 8}
    params = {**_sums.OfSum.params, **_gated.params("d")}
    averages = False
    rate = 5e-4
    unmergeable = "gated"
    possible = "keep it attached"

    def at_target(self, model: nn.Module, target: Target, values: dict[str, Any]) -> dict[str, Any]:
        return _gated.said(model, target, super().at_target(model, target, values))

    def mounts(self, model: nn.Module, adapter: Adapter) -> list[Mount]:
        texts = _gated.texts(adapter)
        return [dataclasses.replace(m, context=m.path in texts) for m in super().mounts(model, adapter)]

    def costs(self, target: Target, cfg: Config) -> Costs | None:
        alone = super().costs(target, cfg)
        return alone and dataclasses.replace(alone, token=alone.token + target.shape[0] + 4)

    def branch(self, h: Tensor, x: Tensor, p: Live, cfg: Config) -> Tensor:
        z = self.read(h, x, p, cfg)
        return _gated.gates(z, p, cfg.of) * bottleneck(z, p, cfg.activation)
