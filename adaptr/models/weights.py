"""The weights of a base as Views, wherever the base is: a live model, or a checkpoint read block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from adaptr import targets as places
from adaptr.adapter import Adapter, Target
from adaptr.bulk.blocks import working
from adaptr.checkpoint.names import Names, Place
from adaptr.checkpoint.open import Checkpoint
from adaptr.checkpoint.reading import reading
from adaptr.checkpoint.stored import Stored
from adaptr.contract import View
from adaptr.contract.view import ALL
from adaptr.models.content import check_content
from adaptr.models.ties import weight_place

if TYPE_CHECKING:
    from torch import Tensor, nn

#: From a target to the View of its weight and bias, in the dtype that merging works in.
Weights = Callable[[Target], View]


def of(base: Checkpoint | nn.Module, adapter: Adapter) -> Weights:
    """The weights that `adapter` changes in `base`. Raises `ContentMismatch` if it was trained on others.

    A target that the base lacks, or has in another shape, raises `TargetNotFound` or `TargetMismatch` when asked for.
    """
    return _of_checkpoint(base, adapter) if isinstance(base, Checkpoint) else _of_model(base, adapter)


def _of_checkpoint(base: Checkpoint, adapter: Adapter) -> Weights:
    names = Names(base)
    check_content(base, names, adapter)

    def weights(target: Target) -> View:
        place = weight_place(names, target)
        stored = names.bias(target)
        return _logical(target, _reader(place), lambda: None if stored is None else _whole(stored))

    return weights


def _of_model(model: nn.Module, adapter: Adapter) -> Weights:
    from adaptr import host
    from adaptr.host.identity import content_of, other_weights, quantization_of
    from adaptr.host.names import current

    now = current(model, adapter)
    wanted, called = now.base.content, dict(zip(adapter.targets, now.targets, strict=True))
    if wanted and not quantization_of(model) and content_of(model, now.targets) != wanted:
        raise other_weights(adapter, "the base", "load the right revision")

    def weights(target: Target) -> View:
        target = replace(target, path=called.get(target.path, target.path))
        places.match(model, target)
        found = host.view_of(model, target)
        bias = found.bias
        return View(_uncallable, lambda s: _widened(found.rows(s)), lambda: None if bias is None else _widened(bias))

    return weights


def _logical(target: Target, read: Callable[[slice], Tensor], bias: Callable[[], Tensor | None]) -> View:
    """Rows of the logical weight from rows of the storage."""
    if target.stacked and target.transposed:
        return View(_uncallable, lambda s: read(s).transpose(1, 2), bias)
    if target.transposed:
        return View(_uncallable, lambda s: read(ALL).t()[s], bias)
    return View(_uncallable, read, bias)


def _reader(place: Place) -> Callable[[slice], Tensor]:
    def read(s: slice) -> Tensor:
        with reading(place.stored) as rows:
            return _widened(rows(place.rows).read(s))

    return read


def _whole(stored: Stored) -> Tensor:
    return _reader(Place(stored, slice(0, stored.entry.shape[0])))(ALL)


def _widened(tensor: Tensor) -> Tensor:
    return tensor.detach().to(working(tensor.dtype))


def _uncallable(*_: object, **__: object) -> NoReturn:
    raise AssertionError("a weight that is only read has no forward")
