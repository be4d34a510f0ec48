"""The View of a layer with all its adapters, in order, made at the first call after a change."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from adaptr.contract import View
from adaptr.host import beside
from adaptr.host.layer import base_view
from adaptr.host.state import State

if TYPE_CHECKING:
    from adaptr.host.arrangement import Arrangement

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
    mine = sorted((state for state in states if state.site.swaps), key=_order)
    for _, level in itertools.groupby(mine, key=_order):
        for arrangement, run in arranged(level):
            view = _on(view, run, module) if arrangement is None else arrangement.over(view, run, module)
    return view


def _order(state: State) -> tuple[bool, int]:
    return not state.site.weighs, state.site.order


def arranged(states: Iterable[State]) -> Iterator[tuple[Arrangement | None, list[State]]]:
    """The states in their order, those of one arrangement of blocks together."""
    for arrangement, run in itertools.groupby(states, key=lambda s: None if s.leaf is None else s.leaf.arrangement):
        yield arrangement, list(run)


def _on(view: View, run: Sequence[State], module: nn.Module) -> View:
    """The layer with states of one order, one on the other."""
    if run[0].site.weighs:
        for product in beside.runs(run):
            view = beside.together(view, product)
        return view
    for state in run:
        if state.strength:
            view = state.site.around(view, state, module)
    return view
