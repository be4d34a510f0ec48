"""`train` and `apply`, answered for every method by the host: a method says where it sits and what it does there.

A method that answers one of the two itself is asked first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr import plugins

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter
    from adaptr.host import Handle, Session


class Host:
    """What is registered beside each method."""

    def train(self, model: nn.Module, adapter: Adapter) -> Session:
        from adaptr import host

        method = plugins.method(adapter.method)
        # what learns are numbers: beside the scales of what was there, they would be read as others
        return host.train(model, method, adapter.floats() if method.trains_parts else adapter)

    def apply(self, model: nn.Module, adapter: Adapter, weight: float) -> Handle:
        from adaptr import host

        return host.attach(model, plugins.method(adapter.method), adapter, weight)


HOST = Host()
