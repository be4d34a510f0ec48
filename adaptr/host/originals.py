"""What parameters were before adapters were merged into them on a live model: kept until they are taken out again."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from adaptr.errors import Unsupported

#: A module that has a parameter, and the parameter's name there.
Place = tuple[nn.Module, str]
_WRITTEN: weakref.WeakKeyDictionary[nn.Module, dict[str, list[Write]]] = weakref.WeakKeyDictionary()


class Write:
    """One adapter in one parameter. `places`: all uses of it; `at`: the part of it that changes, () for all.

    `make`: from what is there, on the CPU, to what shall be. Writes on one parameter are undone in any order: those
    above are taken off, and made again.
    """

    def __init__(self, places: Sequence[Place], at: tuple[int | slice, ...], make: Callable[[Tensor], Tensor]) -> None:
        self.places, self.at, self.make = list(places), at, make
        self.old: Tensor | None = None
        self._mark: tuple[object, ...] = ()

    @property
    def parameter(self) -> nn.Parameter:
        module, name = self.places[0]
        found = module._parameters[name]
        assert found is not None
        return found

    @property
    def name(self) -> str:
        return self.places[0][1]

    def do(self) -> None:
        """Merge. What was there is kept."""
        now = self.parameter.detach()[self.at]
        self.old = now.clone()
        self._put(self.make(self.old.cpu().contiguous()))
        self._written.append(self)
        self._seal()

    def check(self) -> None:
        """Raises `Unsupported` if somebody has written to the parameter since."""
        mine = self._written
        if mine[-1]._mark[:3] == (found := _mark(self.parameter))[:3] and mine[-1]._mark != found:
            raise Unsupported(
                f"the parameter `{self.name}` that an adapter was merged into has been written to since (trained, or "
                "loaded over); what is kept from before would undo that too: load the base again"
            )

    def undo(self) -> None:
        """Put back what was there, under what was merged later."""
        mine = self._written
        later = mine[mine.index(self) + 1 :]
        for write in reversed((self, *later)):
            write._restore()
        for write in later:
            write.do()
        self._seal()

    def _restore(self) -> None:
        assert self.old is not None
        self._put(self.old)
        self._written.remove(self)
        self.old = None

    @property
    def _written(self) -> list[Write]:
        """What is merged into the parameter, oldest first; one list for all its uses."""
        (module, name), *others = self.places
        mine = _WRITTEN.setdefault(module, {}).setdefault(name, [])
        for other, called in others:
            _WRITTEN.setdefault(other, {})[called] = mine
        return mine

    def _put(self, value: Tensor) -> None:
        for parameter in {id(p): p for m, n in self.places if (p := m._parameters[n]) is not None}.values():
            with torch.no_grad(), torch.inference_mode(parameter.is_inference()):
                parameter.detach()[self.at].copy_(value)

    def _seal(self) -> None:
        """What is there now is ours: the last of the writes knows it."""
        for write in self._written[-1:]:
            write._mark = _mark(self.parameter)


def _mark(parameter: nn.Parameter) -> tuple[object, ...]:
    """Where a parameter lies, and how often it was written to."""
    version = -1 if parameter.is_inference() else parameter._version
    return parameter.data_ptr(), parameter.dtype, parameter.device, version


def original(module: nn.Module, name: str, parameter: Tensor) -> Tensor:
    """The parameter as it was without what is merged into it."""
    writes = _WRITTEN.get(module, {}).get(name)
    if not writes:
        return parameter
    found = parameter.detach().clone()
    for write in reversed(writes):
        assert write.old is not None
        found[write.at].copy_(write.old)
    return found
