"""What a module puts out, read and not changed: for others in this forward, by its context, or folded at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.host.outputs import first_of
from adaptr.sites.base import OnModule

if TYPE_CHECKING:
    from torch import nn

    from adaptr.contract import View
    from adaptr.host.state import State


class Tap(OnModule):
    name = "tap"
    order = 4

    def around(self, below: View, state: State, module: nn.Module) -> View:
        def call(*args: object, **kwargs: object) -> object:
            output: object = below(*args, **kwargs)
            state.method.tap(first_of(output), state, state.cfg)
            return output

        return below.then(call=call)


SITE = Tap()
