"""Average: the weighted mean of each tensor of adapters that are alike.  Chronopoulou et al. 2023, arXiv:2302.07027
(AdapterSoup).

For bottlenecks, prompts and biases, which have no delta of weights. Not for deltas: the mean of A and B apart is not
the mean of B A; `linear` is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptr import plugins
from adaptr.adapter import REPLACED, Adapter
from adaptr.contract.settings import Nothing
from adaptr.errors import Unsupported, phrases
from adaptr.precision import widest
from adaptr.strategies.base import Weights
from adaptr.strategies.whole import Whole, materialised, require_alike

if TYPE_CHECKING:
    from torch import Tensor


class Average(Whole[Nothing]):
    name = "average"
    normalize = True

    def whole(self, adapters: Sequence[Adapter], weights: Weights, cfg: Nothing) -> Adapter:
        adapters = materialised(adapters)
        first = adapters[0]
        for method in (p.method for p in first.parts.values()) if first.parts else (first.method,):
            if not plugins.method(method).can.averages:
                raise Unsupported(
                    f"`average` of `{method}` would average its factors apart, which is not the average of what "
                    "they do",
                    hint="use `linear`",
                )
        require_alike(self.name, adapters, frozenset({"m"}))  # shapes tell of `m`
        keys = [k for k in first.tensors if not k.endswith(f":{REPLACED}")]
        return first.replace(tensors={key: _mean(key, adapters, weights) for key in keys})


def _mean(key: str, adapters: Sequence[Adapter], weights: Weights) -> Tensor:
    import torch

    parts = [a.tensors[key] for a in adapters]
    for adapter, part in zip(adapters, parts, strict=True):
        if part.shape != parts[0].shape:
            raise phrases.misshapen(
                f"`average`: `{key}` of `{adapter.label}`",
                part.shape,
                parts[0].shape,
                by=f"as that of `{adapters[0].label}`",
                hint="use `linear`",
            )
    total = torch.stack([w * part.double() for w, part in zip(weights, parts, strict=True)]).sum(0)
    return total.to(widest(*(part.dtype for part in parts)))
