"""What merging an adapter changes in a live model: everything that can be wrong is found here, before it is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from adaptr import plugins, targets
from adaptr.adapter import REPLACED
from adaptr.bulk.blocks import Weight, merged_bias
from adaptr.bulk.change import Layer, Solid, Span
from adaptr.changes import grounds
from adaptr.changes.plan import members, moves_bias, no_rows, probe
from adaptr.checkpoint.stream import Rows
from adaptr.contract.view import ALL
from adaptr.errors import NotPossible, Unsupported, phrases
from adaptr.host.experts import part_of
from adaptr.host.mounting import Mounting
from adaptr.host.packed import is_packed, packing_of
from adaptr.host.replace import MARK, same, slots
from adaptr.merging.measured import require_finite

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adaptr.adapter import Adapter
    from adaptr.host.state import State

Strength = Callable[[str], float]


@dataclass
class Change:
    """One parameter, or `at` which part of it, and what it becomes: all `layers` on it, or another `value`.

    `ground`: whether `value` is only what another use of a tied weight has under its delta. `below`: what gives the
    weight beside a bias that depends on it.
    """

    name: str
    at: tuple[int | slice, ...] = ()
    what: str = "weight"
    layers: list[Layer] = field(default_factory=list)
    value: Tensor | None = None
    ground: bool = False
    below: Callable[[], Tensor] | None = None

    def make(self, old: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Rows and their new values, of the old ones: the bytes that merging a checkpoint of it writes."""
        if self.value is not None:
            yield ALL, self.value.detach()
        elif self.what == "bias":
            below = None if self.below is None else Held(self.below())
            value = merged_bias(tuple(self.layers), old.cpu().contiguous(), below)
            yield ALL, self._rounded(value, old)
        else:
            weight = Weight(Span(slice(0, len(old)), tuple(self.layers)), Held(old))
            yield from ((s, self._rounded(weight.merged(s), old)) for s in weight.blocks())

    def _rounded(self, value: Tensor, old: Tensor) -> Tensor:
        """To the dtype of what is there, once. Raises `NonFinite`."""
        new = value.to(old.dtype)
        require_finite(self.name, new, value)
        return new


class Held(Rows):
    """Rows of a tensor in memory, on whatever device."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.start, self.count = tensor, 0, len(tensor)
        self.dtype, self.tail = tensor.dtype, tuple(tensor.shape[1:])
        self.row_bytes = tensor[:1].numel() * tensor.element_size()
        self._held = None

    def _load(self, start: int, stop: int) -> Tensor:
        return self.tensor[start:stop].cpu().contiguous()


def changes(model: nn.Module, adapter: Adapter, weight: float) -> list[Change]:
    """The changes of `adapter` at a strength. Raises what attaching raises, and `NotMergeable`, `Unsupported` and
    `NotPossible` where there is no weight to merge into.
    """
    found: dict[tuple[str, str], Change] = {}
    beside: dict[str, list[Layer]] = {}
    for leaf, strength in _leaves(adapter, lambda path: weight):
        for change in _of(model, leaf, strength):
            if change.what == "bias":
                beside.setdefault(change.name, []).extend(change.layers)
                if not any(map(moves_bias, change.layers)):
                    continue
            mine = found.setdefault((change.name, str(change.at)), Change(change.name, change.at, change.what))
            if change.value is not None or mine.value is not None:
                if mine.layers or mine.value is not None:
                    raise NotPossible(
                        f"`{change.name}` is replaced as a whole by one adapter and changed by another",
                        hint="drop it from one of them",
                    )
                mine.value, mine.ground = change.value, change.ground
            mine.layers += change.layers
            mine.below = mine.below or change.below
    for change in found.values():
        if change.below is not None:  # all layers on the weight, in their order
            change.layers = beside[change.name]
    for name in {change.name for change in found.values()}:
        require_writable(model, name)
    return sorted(found.values(), key=lambda change: change.below is None)  # biases before the weights that they read


def _leaves(adapter: Adapter, strength: Strength) -> Iterator[tuple[Adapter, Strength]]:
    """The adapters that one is made of, to the last; and what it replaces itself."""
    for member in members(adapter):
        if member.adapter is adapter:
            yield adapter, strength
            return
        yield from _leaves(member.adapter, _product(strength, member.strength))
    if adapter.replaced_paths:
        yield adapter.replace(targets={}, parts={}), strength


def _product(one: Strength, two: Strength) -> Strength:
    return lambda path: one(path) * two(path)


def _of(model: nn.Module, adapter: Adapter, strength: Strength) -> Iterator[Change]:
    method = plugins.method(adapter.method)
    for target in adapter.targets.values():
        probe(Layer(adapter, target, 1.0))  # refuses what has no weight, whatever else is wrong
    mounting = Mounting(model, method, adapter, 1.0, False)
    mounting.check()
    now = mounting.adapter.held()
    now = now.replace(tensors=Solid(now.tensors))

    def strong(path: str) -> float:
        return strength(mounting.given.get(path, path))

    for path, target in now.targets.items():
        method.check_weight(strong(path))
        layer = Layer(now, target, strong(path))
        found = _on_ground(model, layer)
        if found or layer.weight:  # at 0 it is not there, as in a merged file: not even its rounding
            yield from found or _weight(model, layer)
            yield from _bias(model, layer)
    below = set(now.grounds.values())
    for path in (path for path in now.replaced_paths if path not in below):
        _require_whole(now, path, strong(path))
        yield Change(path, value=now.tensors[f"{path}:{REPLACED}"])


def _on_ground(model: nn.Module, layer: Layer) -> list[Change]:
    """A weight that the adapter brings under its own delta, if it is another than the model's."""
    name = layer.adapter.grounds.get(layer.target.path)
    if name is None or same(model, name, value := layer.adapter.tensors[f"{name}:{REPLACED}"]):
        return []
    _require_whole(layer.adapter, name, layer.weight)
    own = set(layer.adapter.replaced_paths)
    others = [n for n in names(model, name) if n not in own]
    below = [Change(other, value=value, ground=True) for other in others]
    return [Change(name, layers=[layer], value=grounds.merged(layer, value)), *below]


def _require_whole(adapter: Adapter, path: str, weight: float) -> None:
    if weight != 1.0:
        raise phrases.no_strength(path, adapter.label, weight)


def _weight(model: nn.Module, layer: Layer) -> Iterator[Change]:
    target, part = layer.target, part_of(model, layer.target)
    if part is not None:
        yield Change(part.path, (part.number, part.rows), layers=[layer])
    elif target.weighted and probe(layer).rows is not no_rows:
        yield Change(target.path if target.stacked else f"{target.path}.weight", layers=[layer])


def _bias(model: nn.Module, layer: Layer) -> Iterator[Change]:
    path, changes = layer.target.path, probe(layer).bias is not None
    try:
        has = targets.submodule(model, path)._parameters.get("bias") is not None
    except AttributeError:  # a stack of experts, or a part of one
        has = False
    if has:
        module = targets.submodule(model, path)
        below = (lambda: module.get_parameter("weight").detach()) if layer.couples else None
        yield Change(f"{path}.bias", what="bias", layers=[layer], below=below)
    elif changes:
        raise Unsupported(
            f"`{layer.adapter.label}` changes the bias of `{path}`, which has none of its own: there is no place "
            "for it in the weights",
            hint="attach it without `merged`",
        )


def names(model: nn.Module, name: str) -> list[str]:
    """All that a parameter is called."""
    own = targets.parameter(model, name)
    return [other for other, found in model.named_parameters(remove_duplicate=False) if found is own]


def require_writable(model: nn.Module, name: str) -> None:
    """Raises `Unsupported` for a parameter that can't be merged into, with what can be done instead."""
    owner, _, last = name.rpartition(".")
    module = targets.submodule(model, owner)
    parameter = slots(module, last).get(last)
    if packing_of(module) is not None and (last == "weight" or parameter is None):
        raise Unsupported(
            f"`{name}` is packed, and merging would quantise it anew",
            hint="attach without `merged`, or load the base unquantised",
        )
    if parameter is None:
        raise Unsupported(f"`{name}` is computed from other parameters at each call", hint="attach without `merged`")
    if hasattr(parameter, MARK):
        raise Unsupported(
            f"`{name}` is replaced by an adapter that is attached, and what is merged would go with it",
            hint="detach it first, or attach this one without `merged`",
        )
    if is_packed(parameter):
        raise Unsupported(
            f"`{name}` is packed ({parameter.dtype}), and merging would quantise it anew",
            hint="attach without `merged`, or load the base unquantised",
        )
    if parameter.is_meta:
        raise Unsupported(f"`{name}` has no values (meta device)", hint="load the model, or use `adaptr merge`")
    above = cast("Mapping[str, State]", module._modules.get("adapters") or {})
    key = next((key for key, state in above.items() if state.site.weighs), None)
    if key is not None:
        raise Unsupported(
            f"`{key}` is attached at `{owner}`, and what is merged would be under it and not on top",
            hint="detach it first, or attach this one without `merged`",
        )
