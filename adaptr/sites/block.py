"""All of a module's forward: the method calls the rest itself, with norms as children and residuals as arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.sites.base import OnModule, unreadable

if TYPE_CHECKING:
    from torch import nn

    from adaptr.contract import View
    from adaptr.host.state import State


class Block(OnModule):
    name = "block"
    apart = True
    order = 3

    def around(self, below: View, state: State, module: nn.Module) -> View:
        def call(*args: object, **kwargs: object) -> object:
            made: object = state.method.block(below, module, state, state.cfg, state.strength, *args, **kwargs)
            return made

        return below.then(call=call, rows=unreadable(state))


SITE = Block()
