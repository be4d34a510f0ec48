"""What a model's code does with a submodule: calls it, or reads its weight without calling it.

A swapped class acts when the layer is called. Code such as `F.linear(x, self.out_proj.weight)` never calls it, so it
must be known beforehand: the sources of the forwards above a layer are read, once for each class. Every mention of a
submodule there is a call (`self.fc(x)`), a question that needs no values (`self.fc.weight.dtype`), or a read: the
weight or bias itself, or the submodule handed to somebody else.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from torch import nn

from adaptr.host.source import ONE, Mentions, Path, text_of

#: How methods begin that make, load and change a model rather than run it.
UPKEEP = ("_", "init", "reset", "tie", "get_", "set_", "resize", "prune", "load", "save", "from_", "post_")


class Use(NamedTuple):
    """`called`, `read`: whether the code above may do so, `known`: whether all of it could be read, `parent`: the path
    of the innermost module above that has a forward of its own.
    """

    called: bool
    read: bool
    known: bool
    parent: str

    @property
    def bypassed(self) -> bool:
        """Whether the layer is never called, so that only its weight can carry an adapter."""
        return self.known and not self.called


def use(model: nn.Module, path: str) -> Use:
    """How the code of the modules above `path` uses the module there."""
    return _used(tuple(map(type, above(model, path))), path)


def above(model: nn.Module, path: str) -> Iterator[nn.Module]:
    """The modules that `path` is in, outermost first."""
    module: nn.Module | None = model
    for name in path.split("."):
        if module is None:
            return
        yield module
        module = module._modules.get(name)


@functools.lru_cache(maxsize=16384)
def _used(classes: tuple[type[nn.Module], ...], path: str) -> Use:
    names = path.split(".")
    patterns = tuple(ONE if name.isdigit() else name for name in names)
    called, read, known, depth = _use(tuple(map(_own, classes)), patterns)
    return Use(called, read, known, ".".join(names[:depth]))


@functools.lru_cache(maxsize=4096)
def _use(classes: tuple[type[nn.Module], ...], names: Path) -> tuple[bool, bool, bool, int]:
    """(called, read, known, depth of the parent), the same for all layers of one kind."""
    found = [(depth, m) for depth, cls in enumerate(classes) if (m := mentioned(cast(Any, cls))) is not None]
    # a model of one layer, or of containers alone, is called by whoever holds it
    known = all(m.known for _, m in found)
    called = not found or not known or any(m.calls_match(names[depth:]) for depth, m in found)
    read = not known or any(m.reads_match(names[depth:]) for depth, m in found)
    return called, read, known, found[-1][0] if found else 0


def _own(cls: type[nn.Module]) -> type[nn.Module]:
    found: type[nn.Module] = getattr(cls, "_adaptr_base", cls)
    return found


@functools.cache
def mentioned(cls: type[nn.Module]) -> Mentions | None:
    """What `cls` does with submodules when it runs; None for containers, which have no forward."""
    if cls.forward is nn.Module.forward:
        return None
    found, waiting = Mentions(), sorted(_entrances(cls))
    seen = set(waiting)
    while waiting:
        for function in _definitions(cls, waiting.pop()):
            found.read(text_of(function), function, cls)
        fresh = found.methods - seen
        seen |= fresh
        waiting += sorted(fresh)
    return found


def _entrances(cls: type[nn.Module]) -> set[str]:
    """Methods that people call: the forward, and others of the classes that make it, such as `encode`."""
    makers = [owner for owner in cls.__mro__ if "forward" in owner.__dict__ and owner is not nn.Module]
    order = cls.__mro__[: cls.__mro__.index(makers[-1]) + 1]
    public = {n for owner in order for n, value in owner.__dict__.items() if inspect.isfunction(value)}
    return {"forward", *(n for n in public if not n.startswith(UPKEEP))}


def _definitions(cls: type[nn.Module], name: str) -> Iterator[object]:
    """All functions of that name in a class and those it comes from: one may call the next."""
    for owner in cls.__mro__:
        if owner in (nn.Module, object):
            continue
        found = owner.__dict__.get(name)
        found = getattr(found, "fget", None) or getattr(found, "__func__", None) or found
        if callable(found) and not inspect.isclass(found):
            yield inspect.unwrap(found)
