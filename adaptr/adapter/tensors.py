"""The tensors of an adapter at one target, on no model: what `adapter.at(path)` gives, and formulas get in merging.

A live model has its own, as formulas see both (`adaptr.contract.Live`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from adaptr.errors import MissingContext, Unsupported
from adaptr.precision import at_least, wide

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from adaptr.contract import Live
    from adaptr.host.context import Context


class Plain(Mapping[str, "Tensor"]):
    """Tensors that are on no model: nothing is kept, nothing trains, and there is no call."""

    __slots__ = ()

    @property
    def training(self) -> bool:
        return False

    @property
    def slots(self) -> Mapping[str, Tensor | None] | None:
        return None

    def sources(self, strength: float) -> tuple[object, ...]:
        return (strength, *self.values())

    def derived(self, name: str, sources: tuple[object, ...], make: Callable[[], Tensor]) -> Tensor:
        return make()

    def taken(self, path: str = "") -> Tensor:
        raise Unsupported(
            "the input of another module is only there in a call of a live model", hint="attach the adapter"
        )

    def call(self, path: str, x: Tensor) -> Tensor:
        raise Unsupported("a module of the base is only there in a live model", hint="attach the adapter")

    def branches(self, h: Tensor) -> Mapping[str, Tensor]:
        raise Unsupported(
            "what other adapters add to an output is only known at the output of a live model",
            hint="attach the adapter",
        )

    @property
    def place(self) -> str:
        return ""

    @property
    def whose(self) -> int:
        return 0

    @property
    def context(self) -> Context:
        raise MissingContext("what a forward knows is only there in a call of a live model", hint="attach the adapter")

    def draw(self, n: int, stream: int = 0) -> Tensor:
        raise MissingContext("numbers are drawn in calls of a live model", hint="attach the adapter")


class Tensors(dict[str, "Tensor"], Plain):
    """A dictionary of them."""

    __slots__ = ()


def all_at_least(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Tensors:
    """Each of `tensors` in a dtype that loses nothing of it nor of `dtype`."""
    return Tensors({name: at_least(tensor, dtype) for name, tensor in tensors.items()})


class Wide(Plain):
    """The same tensors, each in fp32 or better, or in at least `dtype`, when it is asked for."""

    __slots__ = ("dtype", "tensors")

    def __init__(self, tensors: Live, dtype: torch.dtype | None = None) -> None:
        self.tensors, self.dtype = tensors, dtype

    def __getitem__(self, name: str) -> Tensor:
        found = self.tensors[name]
        return wide(found) if self.dtype is None else at_least(found, self.dtype)

    @property
    def training(self) -> bool:
        return self.tensors.training

    def sources(self, strength: float) -> tuple[object, ...]:
        return self.tensors.sources(strength)

    def derived(self, name: str, sources: tuple[object, ...], make: Callable[[], Tensor]) -> Tensor:
        return self.tensors.derived(name, sources, make)

    def taken(self, path: str = "") -> Tensor:
        return self.tensors.taken(path)

    def call(self, path: str, x: Tensor) -> Tensor:
        return self.tensors.call(path, x)

    def branches(self, h: Tensor) -> Mapping[str, Tensor]:
        return self.tensors.branches(h)

    @property
    def place(self) -> str:
        return self.tensors.place

    @property
    def whose(self) -> int:
        return self.tensors.whose

    @property
    def context(self) -> Context:
        return self.tensors.context

    def draw(self, n: int, stream: int = 0) -> Tensor:
        return self.tensors.draw(n, stream)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)
