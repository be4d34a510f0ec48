"""Where the changes of a live model are written: a tied weight has several places, as it has in a checkpoint.

What is said of ties, and what is refused, is what `adaptr.changes.tied` says of files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from adaptr import targets
from adaptr.changes.agreement import agreed, apart, follows, once, require_one_kind, require_word
from adaptr.errors import NotPossible, TiedWeights, Unsupported
from adaptr.host.originals import Place, parameter_of
from adaptr.merging.in_memory import Change, require_writable
from adaptr.merging.untied import SLOT, require_separable, uses

if TYPE_CHECKING:
    from torch import nn

    from adaptr.bulk.change import Tied


class Settled(NamedTuple):
    """What is written where. `untied`: whether the uses need parameters of their own before."""

    writes: list[tuple[list[Place], Change]]
    untied: bool


class _Met(NamedTuple):
    """One parameter, or a part of it. `places`: its uses by name; `mine`: what becomes of those that change."""

    places: Mapping[str, Place]
    mine: dict[str, Change]

    @property
    def tied(self) -> bool:
        """Whether there is something to tell apart: a bias of a layer, by a name in the module around it, is one."""
        return len(self.places) > 1 and not (self.parameter.ndim == 1 and _nested(list(self.places)))

    @property
    def parameter(self) -> nn.Parameter:
        return parameter_of(next(iter(self.places.values())))

    @property
    def agreed(self) -> bool:
        return agreed(len(self.places), self.mine)


def settle(model: nn.Module, found: Sequence[Change], tied: Tied) -> Settled:
    """Raises `TiedWeights` where one use of a tensor changes and nobody said what becomes of the others, `Unsupported`
    where the model can't be untied, `NotPossible` where uses would change in two ways and are to stay one.
    """
    require_word(tied)
    met = _met(model, found)
    if tied == "both":
        _refuse_untied(model, met)
    unsettled = [one for one in met if one.tied and (tied == "untie" or not one.agreed)]
    if unsettled and tied is None:
        raise _unsettled(unsettled[0])
    if unsettled and tied == "untie":
        require_separable(model, next(iter(unsettled[0].mine)))
        return Settled([write for one in met for write in _apart(one)], True)
    for name in (name for one in met for name in one.places):
        require_writable(model, name)
    return Settled([(list(one.places.values()), _everywhere(one)) for one in met], False)


def _met(model: nn.Module, found: Sequence[Change]) -> list[_Met]:
    several = uses(model)
    met: dict[tuple[int, str], _Met] = {}
    for change in found:
        owner, _, last = change.name.rpartition(".")
        place = targets.submodule(model, owner), last
        one = id(parameter_of(place))
        places = several.get(one, {change.name: place})
        name = next(name for name, other in places.items() if other == place)
        mine = met.setdefault((one, str(change.at)), _Met(places, {})).mine
        if mine.setdefault(name, change) is not change:
            raise Unsupported(f"`{name}` and `{change.name}` are one tensor of one module", hint="name it once")
    # in the model's order, as files have it
    return [one._replace(mine={use: one.mine[use] for use in one.places if use in one.mine}) for one in met.values()]


def _everywhere(one: _Met) -> Change:
    """What becomes of all uses together."""
    mine = {use: change for use, change in one.mine.items() if not change.ground} or one.mine
    whole, (first, *_) = once(mine), mine.values()
    if whole is None and any(change.value is not None for change in mine.values()):
        names = " and ".join(f"`{use}`" for use in mine) if len(mine) > 1 else f"`{next(iter(mine))}`"
        raise NotPossible(f"{names} are one tensor, and both are changed", hint='say `tied="untie"`')
    if whole is not None:
        return whole
    layers = [layer for change in mine.values() for layer in change.layers]
    require_one_kind(first.name, layers, 'merge them in turn, or say `tied="untie"`')
    return replace(first, layers=layers)


def _apart(one: _Met) -> Iterator[tuple[list[Place], Change]]:
    if not one.tied:
        yield list(one.places.values()), _everywhere(one)
        return
    for use, change in apart(one.places, one.mine, _following).items():
        yield [one.places[use]], change


def _following(change: Change) -> Change:
    return replace(change, layers=list(filter(follows, change.layers)))


def _nested(names: Sequence[str]) -> bool:
    owners = sorted((name.rpartition(".")[0] for name in names), key=len)
    return all(owner.startswith(f"{owners[0]}.") for owner in owners[1:])


def _refuse_untied(model: nn.Module, met: Sequence[_Met]) -> None:
    """What another adapter has untied is several tensors now, and one of them alone would change."""
    groups = model.__dict__[SLOT].groups if SLOT in model.__dict__ else []
    for one in met:
        if any(place in group for group in groups for place in one.places.values()):
            raise Unsupported(
                f'`{next(iter(one.mine))}` is no longer tied, as another adapter was merged with `tied="untie"`',
                hint="detach that first",
            )


def _unsettled(one: _Met) -> TiedWeights:
    use = next(iter(one.mine))
    others = " and ".join(f"`{other}`" for other in one.places if other != use)
    return TiedWeights(
        f"`{use}` is tied to {others}: the model uses one tensor in several places, an attached adapter acts on one of "
        "them, and merging would change all",
        hint='Say `tied="both"` to change all, `tied="untie"` to give each use a tensor of its own, or attach without '
        "`merged`",
    )
