"""Interventions as AdapterHub has them. One without a basis is NoReFT there, so that DiReFT has no place; its file says
that it subtracts, so that it is NoReFT to adaptr too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.errors import Unsupported, phrases
from adaptr.foreign import same
from adaptr_formats.adapterhub.config import REFT
from adaptr_formats.adapterhub.reft import _AT, _BASIS, _NAMES, PROJECTION, B, W
from adaptr_formats.adapterhub.written.layers import Layers, Made, one

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter
    from adaptr.foreign.same import Same


def write(adapter: Adapter, layers: Layers) -> Made:
    groups = layers.grouped(adapter)
    if any(list(group) != [""] for group in groups.values()):
        raise Unsupported("AdapterHub intervenes at the outputs of layers alone", hint=phrases.OWN)
    said = one((dict(target.config) for target in adapter.targets.values()), "set-up")
    based = adapter.method == "loreft"
    if based and not said["finished"]:
        raise Unsupported(
            "its basis is what training makes of R, which AdapterHub's file has and this adapter not yet",
            hint="finish its training (`session.adapted()`)",
        )
    tensors: dict[str, tuple[str, Tensor | Same]] = {}
    for path in adapter.targets:
        own = same.at(adapter, path)
        for unit, suffix in enumerate(("",) if said["share_weights"] else ("", "_s")):
            at = f"{path}.{_AT}.refts.{layers.name}.units.{unit}"
            source, projection, bias = (f"{name}{suffix}" for name in _NAMES[adapter.method])
            tensors[f"{path}:{source}"] = (f"{at}.{W}", own[source])
            tensors[f"{path}:{bias}"] = (f"{at}.{B}", own[bias])
            if not based:
                tensors[f"{path}:{projection}"] = (f"{at}.{PROJECTION}", own[projection])
                continue
            for slot, value in zip(_BASIS, _reflected(own[projection].tensor), strict=True):
                tensors[f"{path}:{projection}{'' if slot == _BASIS[0] else '.base'}"] = (f"{at}.{slot}", value)
    config = {
        "architecture": REFT,
        "r": said["r"],
        "prefix_positions": said["first"],
        "suffix_positions": said["last"],
        "tied_weights": said["share_weights"],
        "dropout": said["dropout"],
        "orthogonality": based,
        "subtract_projection": True,
        "layers": sorted(map(layers.number, groups)) if layers.left_out(groups) else "all",
    }
    return Made(config, tensors)


def _reflected(R: Tensor) -> tuple[Tensor, Tensor]:
    """What torch trains and the base it goes from, whose first columns are the rows of R turned round: its reflections
    by nothing are of the first axes.
    """
    import torch

    wide = R.double()
    Q = torch.linalg.qr(wide.mT, mode="complete").Q
    base = torch.cat([-wide.mT, Q[:, len(R) :]], 1)
    return torch.eye(*R.shape, dtype=R.dtype), base.to(R.dtype).contiguous()
