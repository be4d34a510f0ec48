"""Merging by the hooks alone, weight by weight in a live model: what merging a checkpoint is held against."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptr import plugins
from adaptr.adapter import Adapter, Target
from adaptr.contract import REASONS
from adaptr.errors import NotMergeable
from adaptr.testing.samples import parts_of

if TYPE_CHECKING:
    from torch import Tensor, nn


def mergeable(adapter: Adapter) -> bool:
    return all(map(_merges, [adapter, *parts_of(adapter)]))


def _merges(adapter: Adapter) -> bool:
    method = plugins.method(adapter.method)
    return method.merges(method.config(adapter.config))


def why_not(adapter: Adapter) -> str:
    """Why it can't be merged, itself or a part of it."""
    methods = [plugins.method(one.method) for one in [adapter, *parts_of(adapter)]]
    return next(REASONS[method.unmergeable] for method in methods if method.unmergeable)


def merged(model: nn.Module, stack: Sequence[tuple[Adapter, float]]) -> nn.Module:
    """A copy of `model` with the adapters in its weights: each weight is read once, from the composed View."""
    import torch

    made = copy.deepcopy(model)
    places = {t.path: t for adapter, _ in stack for _, t in adapter.all_targets}
    with torch.no_grad():
        for target in places.values():
            W, b = composed(model, stack, target)
            _write(made, target, W, b)
    return made


def composed(model: nn.Module, stack: Sequence[tuple[Adapter, float]], target: Target) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of `target` under all adapters of the stack that have it."""
    from adaptr.host import view_of

    view = view_of(model, target)
    for adapter, weight in stack:
        for _, part, strength in plugins.method(adapter.method).members(adapter):
            own = part.targets.get(target.path)
            if own is not None:
                strong = weight * strength(target.path)
                view = plugins.hooks(part.method).merge(adapter=part, target=own, base=view, weight=strong)
    return view.weight, view.bias


def _write(model: nn.Module, target: Target, W: Tensor, b: Tensor | None) -> None:
    import torch

    if target.stacked:
        model.get_parameter(target.path).copy_(W.transpose(1, 2) if target.transposed else W)
        return
    module = model.get_submodule(target.path)
    module.get_parameter("weight").copy_(W.t() if target.transposed else W)
    if b is not None:
        module.bias = torch.nn.Parameter(b.clone())


def round_trip(
    model: nn.Module, adapter: Adapter, target: Target
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    """(W, b, W', b'): a target before merging, and after merging and unmerging it."""
    from adaptr.contract.view import of_weight
    from adaptr.host import view_of

    method, hooks = plugins.method(adapter.method), plugins.hooks(adapter.method)
    base = view_of(model, target)
    kept = method.keep(base, adapter.at(target.path), method.config(target.config), slice(None))
    up = hooks.merge(adapter=adapter, target=target, base=base, weight=1.0)
    there = of_weight(up.weight.detach(), None if up.bias is None else up.bias.detach())
    down = hooks.unmerge(adapter=adapter, target=target, merged=there, kept=kept, weight=1.0)
    return base.weight, base.bias, down.weight, down.bias


def assert_refused(adapter: Adapter, model: nn.Module) -> None:
    """Merging says why not, and what is possible."""
    import pytest

    from adaptr.host import view_of

    refused = [one for one in [adapter, *parts_of(adapter)] if not _merges(one)]
    assert refused
    for part in refused:
        for target in part.targets.values():
            with pytest.raises(NotMergeable, match="Possible:"):
                plugins.hooks(part.method).merge(adapter=part, target=target, base=view_of(model, target), weight=1.0)
