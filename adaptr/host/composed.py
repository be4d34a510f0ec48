"""The View of a layer with all its adapters, in order, made at the first call after a change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from adaptr.contract import View
from adaptr.host import beside
from adaptr.host.layer import base_view
from adaptr.host.state import State

CACHE = "_adaptr_view"


def composed(module: nn.Module) -> tuple[Tensor | None, Callable[..., Any], View]:
    """The weight that the View is made for, its forward, and itself: kept on the module until something changes."""
    view = compose(module)
    found = (module._parameters.get("weight"), view.call, view)
    if not torch.compiler.is_compiling():  # closures made in a trace can't leave it
        module.__dict__[CACHE] = found
    return found


def compose(module: nn.Module) -> View:
    """The View of a swapped module: its own layer with all its adapters, in order.

    What changes the layer's weight comes before what works on its input and output, whichever was attached first. At
    strength 0 an adapter is not there.
    """
    view = base_view(module)
    states = cast("list[State]", list(cast(nn.ModuleDict, module.adapters).values()))
    mine = sorted((state for state in states if state.site.swaps), key=lambda s: s.site.order)
    for run in beside.runs(state for state in mine if state.site.weighs):
        view = beside.together(view, run)
    for state in mine:
        if not state.site.weighs and state.strength:
            view = state.site.around(view, state, module)
    return view
