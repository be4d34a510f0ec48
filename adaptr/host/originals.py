"""What parameters were before adapters were merged into them on a live model: kept until they are taken out again."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from adaptr.errors import Unsupported

#: A module that has a parameter, and the parameter's name there.
Place = tuple[nn.Module, str]
#: From what is there to rows and their new values.
Make = Callable[[Tensor], Iterable[tuple[slice, Tensor]]]
_WRITTEN: weakref.WeakKeyDictionary[nn.Module, dict[str, list[Write]]] = weakref.WeakKeyDictionary()


class Write:
    """One adapter in one parameter. `places`: all uses of it; `at`: the part of it that changes, () for all.

    `make`: from what was there to rows and what these shall be, block by block. Writes on one parameter are undone in
    any order: those above are taken off, and made again. `reads`: places that `make` looks at, to which that goes for.
    """

    def __init__(
        self, places: Sequence[Place], at: tuple[int | slice, ...], make: Make, reads: Sequence[Place] = ()
    ) -> None:
        self.places, self.at, self.make, self.reads = list(places), at, make, list(reads)
        self.old: Tensor | None = None
        self._marks: list[Mark] = []

    @property
    def name(self) -> str:
        return self.places[0][1]

    def do(self) -> None:
        """Merge, wholly or not at all. What was there is kept."""
        self.old = parameter_of(self.places[0]).detach()[self.at].clone()
        self._written.append(self)
        try:
            for rows, value in self.make(self.old):
                self._put(value, rows)
        except BaseException:
            self._restore()
            raise
        self.seal()

    def check(self) -> None:
        """Raises `Unsupported` if somebody has written to the parameter since, or put another in its place."""
        for place in self.places:
            if not any(mark.holds(parameter_of(place)) for mark in writes_at(place)[-1]._marks):
                raise Unsupported(
                    f"the parameter `{self.name}` that an adapter was merged into has been written to since (trained, "
                    "or loaded over), or an adapter that is attached replaces it, and what is kept from before would "
                    "undo that too",
                    hint="detach what was attached later, or load the base again",
                )

    def undo(self) -> None:
        """Put back what was there, under what was merged later. If that can't be merged anew, nothing changes."""
        mine = self._written
        later = mine[mine.index(self) + 1 :]
        for write in reversed((self, *later)):
            write._restore()
        try:
            _all(later)
        except BaseException:
            _all((self, *later))
            raise
        for write in writes_at(self.places[0])[-1:]:
            write.seal()

    def _restore(self) -> None:
        assert self.old is not None
        self._put(self.old)
        self._written.remove(self)
        self.old = None

    @property
    def _written(self) -> list[Write]:
        """What is merged into the parameter, oldest first; one list for all its uses, and for what it is read with."""
        mine = _list(self.places[0])
        for place in (*self.places[1:], *self.reads):
            other = _list(place)
            if other is not mine:
                mine += [write for write in other if write not in mine]
                for module, name in {place, *(known for write in other for known in (*write.places, *write.reads))}:
                    _WRITTEN.setdefault(module, {})[name] = mine
        return mine

    def _put(self, value: Tensor, rows: slice = slice(None)) -> None:
        for parameter in {id(p): p for p in map(parameter_of, self.places)}.values():
            with torch.no_grad(), torch.inference_mode(parameter.is_inference()):
                parameter.detach()[self.at][rows].copy_(value)

    def seal(self) -> None:
        """What is there now is ours."""
        self._marks = [Mark(parameter_of(place)) for place in self.places]


def _all(writes: Sequence[Write]) -> None:
    """Do all of them, or none."""
    for number, write in enumerate(writes):
        try:
            write.do()
        except BaseException:
            for done in reversed(writes[:number]):
                done._restore()
            raise


class Mark:
    """Which parameter it was, where it lay, and how often it was written to."""

    def __init__(self, parameter: nn.Parameter) -> None:
        self._one, self._at = weakref.ref(parameter), _at(parameter)

    def holds(self, parameter: nn.Parameter) -> bool:
        """Whether nobody has written to it. One that was moved or cast since is the same."""
        now = _at(parameter)
        return self._one() is parameter and (now[1:] != self._at[1:] or now == self._at)


def _at(parameter: nn.Parameter) -> tuple[object, ...]:
    version = -1 if parameter.is_inference() else parameter._version
    return version, parameter.data_ptr(), parameter.dtype, parameter.device


def parameter_of(place: Place) -> nn.Parameter:
    module, name = place
    found = module._parameters[name] if name in module._parameters else module._buffers[name]
    assert found is not None
    return found  # type: ignore[return-value]


def writes_at(place: Place) -> list[Write]:
    """What is merged into a place, oldest first."""
    return [write for write in _WRITTEN.get(place[0], {}).get(place[1], []) if place in write.places]


def _list(place: Place) -> list[Write]:
    return _WRITTEN.setdefault(place[0], {}).setdefault(place[1], [])


def original(module: nn.Module, name: str, parameter: Tensor) -> Tensor:
    """The parameter as it was without what is merged into it."""
    writes = writes_at((module, name))
    if not writes:
        return parameter
    found = parameter.detach().clone()
    for write in reversed(writes):
        assert write.old is not None
        found[write.at].copy_(write.old)
    return found
