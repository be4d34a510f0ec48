"""What a module is given, by position or by name: the layer with x + w (f(x) - x) in the place of x."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.adapter.tensors import Wide
from adaptr.precision import at_least
from adaptr.sites.base import OnModule, given, unreadable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.contract import View
    from adaptr.host.state import State


class Input(OnModule):
    name = "input"
    apart = True
    order = 1

    def around(self, below: View, state: State, module: nn.Module) -> View:
        def call(*args: object, **kwargs: object) -> object:
            y = _changed(given(args, kwargs), state)
            if args:
                return below(y, *args[1:], **kwargs)
            return below(**{**kwargs, next(iter(kwargs)): y})

        return below.then(call=call, rows=unreadable(state))


def _changed(x: Tensor, state: State) -> Tensor:
    inner, w = at_least(x, state.dtype or x.dtype), state.strength
    y: Tensor = state.method.input(inner, Wide(state, inner.dtype), state.cfg)
    return (y if w == 1.0 else inner + w * (y - inner)).to(x.dtype)


SITE = Input()
