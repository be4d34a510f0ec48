"""What the mounts of a gate share in one call: the weights that its pass of the base gave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from adaptr.host.call import find

if TYPE_CHECKING:
    from adaptr.host.mounting import Mounting

#: What a gate's `Signal` finds in the pass of the base.
PASS = "the pass of the base"


class Signal:
    """What the mounts of a gate share. `probe`: the experts' weight in the pass of the base. `log`: weights by path,
    while recorded.
    """

    def __init__(self) -> None:
        self.probe = 0.0
        self.log: dict[str, list[Tensor]] | None = None

    @property
    def silent(self) -> bool:
        """Whether this call is in the pass of the base."""
        return find(self) is PASS

    @property
    def value(self) -> Tensor | None:
        """The weights (batch, tokens, sites, n) that the pass gave in this call."""
        return cast("Tensor | None", find(self))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "log": None}


def signal_of(mounting: Mounting) -> Signal:
    """That of the adapter that is being attached."""
    found: Signal = mounting.common.setdefault("signal", Signal())
    return found
