"""Whether the uses of one tensor change in one way: asked of files that are merged, and of live models."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from adaptr.algebra.lowrank import LowRank
from adaptr.errors import NotPossible, Unsupported, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.bulk.change import Layer


class Changing(Protocol):
    """One use and what becomes of it: `layers` on it, or another `value`. `what`: weight, bias, replaced or copy.
    `ground`: whether it is what an adapter on another use stands on, and no change of its own.
    """

    @property
    def name(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def layers(self) -> Sequence[Layer]: ...
    @property
    def value(self) -> Tensor | None: ...
    @property
    def ground(self) -> bool: ...


C = TypeVar("C", bound=Changing)


def require_word(tied: object) -> None:
    """Raises `UsageError` for what says nothing of ties."""
    if tied not in {None, "both", "untie"}:
        raise UsageError("`tied`", got=tied, want='"both" or "untie"')


def agreed(uses: int, mine: Mapping[str, C]) -> bool:
    """Whether all of so many uses get one new value, or one delta that was trained as one, or are changed by methods
    that follow ties: nothing is to be decided.
    """
    layers = [layer for change in mine.values() for layer in change.layers]
    if layers and all(map(follows, layers)):
        return True
    if len(mine) < uses:
        return False
    return _value(mine) is not None or (all(map(_kept_tied, mine.values())) and once(mine) is not None)


def follows(layer: Layer) -> bool:
    """Whether it acts on all uses of a tied weight, whichever of them is its target."""
    return layer.method.can.follows


def apart(uses: Iterable[str], mine: Mapping[str, C], following: Callable[[C], C]) -> dict[str, C]:
    """What becomes of each use that gets a tensor of its own: what `follows` ties changes uses that nobody named too.

    `following`: a change with those of its layers alone. Raises `NotPossible` for a use that another adapter changes as
    well.
    """
    found = dict(mine)
    for use in uses:
        led = next((c for other, c in mine.items() if other != use and any(map(follows, c.layers))), None)
        own = mine.get(use)
        if led is not None and (own is None or own.ground):
            found[use] = following(led)
        elif led is not None and own is not None and not (own.layers and all(map(follows, own.layers))):
            raise NotPossible(
                f"`{use}` changes by itself and with `{led.name}`: which comes first is not known",
                hint="merge them in turn, or keep them attached",
            )
    return found


def once(mine: Mapping[str, C]) -> C | None:
    """The change of all uses, if it is one."""
    first, *others = mine.values()
    return first if all(_same_delta(first, other) for other in others) else _value(mine)


def same_value(mine: Mapping[str, Changing]) -> bool:
    """Whether all of them are replaced, by the same."""
    return _value(mine) is not None


def require_one_kind(name: str, layers: Iterable[Layer], hint: str) -> None:
    """A look-up table and a tied head read one tensor in two ways. Raises `Unsupported` for layers of both."""
    kinds = sorted({f"{layer.target.kind} {layer.target.shape}" for layer in layers})
    if len(kinds) > 1:
        raise Unsupported(f"adapters read `{name}` as {' and as '.join(kinds)}", hint=hint)


def _kept_tied(change: Changing) -> bool:
    """Whether the adapter's own configuration kept the deltas of tied weights one (PEFT's `ensure_weight_tying`)."""
    said = [layer.adapter.foreign.get("peft", {}).get("config", {}) for layer in change.layers]
    return bool(said) and all(config.get("ensure_weight_tying") is True for config in said)


def _same_delta(one: Changing, two: Changing) -> bool:
    """Whether two uses get one low-rank delta, by its factors: as a table it lies turned to what it is as a head."""
    import torch

    a, b = _factors(one), _factors(two)
    if a is None or b is None or a[2] != b[2] or not (torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])):
        return False
    if one.value is None or two.value is None:
        return one.value is two.value
    return one.value.shape == two.value.shape and torch.allclose(one.value, two.value, rtol=1e-4, atol=1e-6)


def _factors(change: Changing) -> tuple[Tensor, Tensor, float] | None:
    """(B, A, scale) of a change by one low-rank layer, as the tensor is stored; None for any other."""
    if change.what not in {"weight", "replaced"} or len(change.layers) != 1:
        return None
    (layer,) = change.layers
    if not layer.method.can.delta:
        return None
    found = layer.method.operator(layer.target, layer.adapter.at(layer.target.path))
    if not isinstance(found, LowRank):
        return None
    B, A = (found.A.mT, found.B.mT) if layer.target.transposed else (found.B, found.A)
    return B, A, found.scale * layer.weight


def _value(mine: Mapping[str, C]) -> C | None:
    """The change that replaces, if all of them replace by the same."""
    import torch

    first, *others = mine.values()
    if first.value is None:
        return None
    same = all(other.value is not None and torch.equal(first.value, other.value) for other in others)
    return first if same else None
