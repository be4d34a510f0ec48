"""Prefixes as AdapterHub has them, flat: keys and values of all layers in one vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.errors import Unsupported, phrases
from adaptr.foreign import placing, same
from adaptr_formats.adapterhub.config import PREFIX
from adaptr_formats.adapterhub.prefix import FLAT
from adaptr_formats.adapterhub.written import gates
from adaptr_formats.adapterhub.written.layers import Layers, Made, one

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter
    from adaptr.foreign.same import Same


def write(adapter: Adapter, layers: Layers) -> Made:
    import torch

    groups = layers.grouped(adapter)
    if layers.model_type.startswith("clip"):
        raise Unsupported(
            "AdapterHub's prefixes of CLIP are called by its towers, and adaptr doesn't write them", hint=phrases.OWN
        )
    if any(len(group) > 1 for group in groups.values()):
        raise Unsupported("AdapterHub has one prefix in a layer, and this has several", hint=phrases.OWN)
    if any(target.config.get("position_offset", "none") != "none" for target in adapter.targets.values()):
        raise Unsupported(
            "AdapterHub leaves the text's positions as they are, and this prefix was trained with shifted ones "
            "(`position_offset` shift)",
            hint=phrases.OWN,
        )
    one((target.shape for target in adapter.targets.values()), "number of heads")
    tokens = one((target.config["tokens"] for target in adapter.targets.values()), "number of tokens")
    is_gated = adapter.method == "gated-prefix"
    tensors: dict[str, tuple[str, Tensor | Same]] = {}
    count = one((target.config["gates"] for target in adapter.targets.values()), "number of gates") if is_gated else 0
    if is_gated:
        gates.require_texts(adapter.targets.values())
        for path in adapter.targets:
            at = f"{layers.attention(path)}.prefix_tuning.prefix_gates.{layers.name}"
            own = gates.slots(same.at(adapter, path), at, count, "")
            tensors |= {f"{path}:{name}": laid for name, laid in own.items()}
    names = [f"{path}:{side}" for path in placing.ordered(adapter.targets) for side in "KV"]
    stacked = torch.stack([same.at(adapter, name[:-2])[name[-1]].tensor for name in names])
    whole = stacked.permute(2, 0, 1, 3).flatten()
    key = f"{layers.root(next(iter(groups)))}prefix_tuning.prefix_tunings.{layers.name}.{FLAT}"
    config = {
        "architecture": PREFIX,
        "flat": True,
        "prefix_length": tokens,
        "leave_out": layers.left_out(groups),
        "dropout": 0.0,
        "use_gating": is_gated,
        "shared_gating": count < 2,
    }
    return Made(config, {**dict.fromkeys(names, (key, whole)), **tensors})
