"""The View of a layer with all its adapters, in order, made at the first call after a change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from adaptr.host import beside
from adaptr.host.layer import base_view
from adaptr.host.state import State
from adaptr.view import View

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

    What changes the layer's weight comes before what works on its output, whichever was attached first. At strength 0
    an adapter is not there.
    """
    view = base_view(module)
    states = cast("list[State]", list(cast(nn.ModuleDict, module.adapters).values()))
    for run in beside.runs(sorted(states, key=lambda s: s.target.kind == "module")):
        view = beside.together(view, run)
    return view
