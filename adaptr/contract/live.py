"""`Live`: the tensors of an adapter at one target, as formulas see them.

On a live model the host has one for each target; for everything else, merging above all, there is a plain one
(`adaptr.adapter.tensors`). Nobody asks which it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.contract.view import View
    from adaptr.host.context import Context


class Live(Protocol):
    """Parameter name to tensor, as `adapter.at(path)` has them, and what a live layer knows beside them."""

    @property
    def training(self) -> bool:
        """Whether the layer trains: dropout is for then."""

    @property
    def slots(self) -> Mapping[str, Tensor | None] | None:
        """Where a live layer has its tensors in each call, as they may be moved or replaced; None where they stay."""

    def __getitem__(self, name: str, /) -> Tensor: ...

    def __iter__(self) -> Iterator[str]: ...

    def __len__(self) -> int: ...

    def __contains__(self, name: object, /) -> bool: ...

    def sources(self, strength: float) -> tuple[object, ...]:
        """All that the adapter's part of the layer depends on, at a strength."""

    def derived(self, name: str, sources: tuple[object, ...], make: Callable[[], Tensor]) -> Tensor:
        """What `make` computes from `sources`, tensors and others; a live layer keeps it until one of them changes."""

    def taken(self, path: str = "") -> Tensor:
        """The input of a module that the mount reads, in this call; of the only one, if none is named."""

    def call(self, path: str, x: Tensor) -> Tensor:
        """What a module of the base that the mount `calls` makes of x, in its own dtype; it comes back in that of x."""

    def branches(self, h: Tensor) -> Mapping[str, Tensor]:
        """By name: what the adapters that it is made of would add to the output h (..., d) of this call."""

    @property
    def place(self) -> str:
        """Where the adapter is in the model."""

    @property
    def whose(self) -> int:
        """A number that all places of one live adapter with a context have, and no other: for the names of what they
        tell each other.
        """

    @property
    def context(self) -> Context:
        """What the forward that this is asked in knows, where the mount says `context`. Raises `MissingContext`."""

    def draw(self, n: int, stream: int = 0) -> Tensor:
        """A whole number below n, the same for this forward and place: `Context.draw`."""


class Signal(Protocol):
    """What the sites of a gate share."""

    probe: float

    @property
    def silent(self) -> bool:
        """Whether this call is in the pass of the base."""

    @property
    def value(self) -> Tensor | None:
        """The weights (batch, tokens, sites, n) that the pass of the base gave in this call."""


class Weighing(Live, Protocol):
    """A layer where a gate weighs experts. `number`: which of the gate's sites it is. `count`: of all experts;
    `present`: the numbers of those that have a delta here.
    """

    signal: Signal
    number: int
    count: int
    present: Sequence[int]

    def weights(self, x: Tensor) -> Tensor:
        """The experts' weights, (n) or one for each token (..., n)."""

    def mixed(self, base: View, x: Tensor, s: Tensor) -> Tensor:
        """The layer's output with the experts at the weights s."""
