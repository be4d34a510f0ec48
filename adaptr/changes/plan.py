"""From adapters and a checkpoint to the list of tensors that change: everything that can be wrong is found here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from adaptr import plugins
from adaptr.adapter import REPLACED, Adapter
from adaptr.adapter.paths import paths_of
from adaptr.adapter.weighting import Layers, Weight, matches
from adaptr.bulk import buffers
from adaptr.bulk.change import FLOATS, Change, Layer, Plan, Solid, Span, Tied
from adaptr.changes import grounds
from adaptr.changes.agreement import require_one_kind
from adaptr.changes.tied import settle
from adaptr.checkpoint.apart import apart
from adaptr.checkpoint.names import Names
from adaptr.checkpoint.open import Checkpoint
from adaptr.contract import Member, View
from adaptr.errors import NothingChanged, NotPossible, TargetNotFound, Unsupported, UsageError, phrases
from adaptr.models.ties import Ties
from adaptr.networks import is_of_blocks

if TYPE_CHECKING:
    from torch import Tensor


def plan(
    checkpoint: Checkpoint,
    stack: Sequence[tuple[Adapter, Weight]],
    tied: Tied = None,
    replaced: Collection[str] | None = None,
) -> Plan:
    """The changes that `stack` makes to `checkpoint`. Nothing is read but headers and tables that an adapter brings
    along; nothing is written. Whether it is the adapters' base is asked in `adaptr.models.belonging`.

    `replaced`: the tensors that a merge has replaced, where `checkpoint` is what it made, and not the base that tells.

    Raises `TargetNotFound`, `TargetMismatch`, `TiedWeights`, `NotMergeable`, `Unsupported`.
    """
    _require_meant(stack)
    names = Names(checkpoint)
    ties = Ties(names)
    spans: dict[str, dict[tuple[int, int], list[Layer]]] = {}
    biases: dict[str, list[Layer]] = {}
    changes: dict[str, Change] = {}
    targets = 0
    for whole, weight in stack:
        parts = members(whole.replace(tensors=Solid(whole.tensors)))
        strong = _strengths(whole, parts, weight)
        for _, adapter, strength in parts:
            targets += len(adapter.targets)
            names.meet(adapter)
            adapter, stacks = apart(names, adapter)
            adapter = adapter.replace(tensors=Solid(adapter.tensors)) if stacks else adapter
            brought = grounds.brought(ties, adapter, replaced)
            for path, target in adapter.targets.items():
                called = stacks.get(path, path)
                layer = Layer(adapter, target, strong(called) * strength(called))
                if layer.weight == 0.0 and not isinstance(weight, int | float):
                    continue  # a place that is left out
                if path in brought:
                    _require_uncoupled(layer)
                    for change in grounds.changes(ties, layer, brought[path]):
                        _put(changes, change)
                else:
                    _add_weight(ties, layer, spans)
                _add_bias(ties, layer, biases)
            _add_replaced(ties, adapter, strong, strength, changes)
        if whole.parts:
            _add_replaced(ties, whole, strong, lambda path: 1.0, changes)
    for name, ranges in spans.items():
        _refuse_overlap(name, ranges)
        found = tuple(Span(slice(*r), tuple(layers)) for r, layers in sorted(ranges.items()))
        _put(changes, Change(name, ties.stored(name), "weight", found))
    for name, layers in biases.items():
        if any(map(moves_bias, layers)):
            _put(changes, _bias(ties, name, layers))
    if not changes and targets:
        raise NothingChanged("the strengths are 0 at all places: merging would change nothing", hint="give others")
    if not changes:
        raise TargetNotFound(
            "the adapters have no targets: merging would change nothing", hint="look at them with `adaptr inspect`"
        )
    _refuse_dtypes(changes)
    changes, untied = settle(ties, changes, tied)
    changes |= buffers.grown(names, changes, replaced)
    _refuse_mixed(changes)
    return Plan(dict(sorted(changes.items())), untied, targets)


def _require_meant(stack: Sequence[tuple[Adapter, Weight]]) -> None:
    """Raises `UsageError` for a weight by pattern that no place of the adapters with it matches: a slip of the pen."""
    places: dict[str, list[str]] = {}
    for adapter, weight in stack:
        if not isinstance(weight, Mapping):
            continue
        paths = [path for _, part, _ in members(adapter) for path in paths_of(part)]
        for pattern in weight:
            places.setdefault(pattern, []).extend(paths)
    for pattern, paths in places.items():
        if pattern != "*" and not is_of_blocks(pattern) and not any(matches(pattern, path) for path in paths):
            raise UsageError(
                f"a weight is for `{pattern}`, which matches no target", hint=phrases.nearest(pattern, paths)
            )


def _strengths(whole: Adapter, parts: Sequence[Member], weight: Weight) -> Callable[[str], float]:
    """How strong an adapter is at each of its places. Raises `UsageError` for weights that say nothing of one."""
    if isinstance(weight, int | float):
        return lambda path: float(weight)
    layers = Layers(path for _, part, _ in parts for path in paths_of(part))
    return lambda path: layers.weight(weight, path, whole.label)


def members(adapter: Adapter) -> list[Member]:
    """The adapters that one is made of, with their strengths, or the adapter itself."""
    return plugins.method(adapter.method).members(adapter)


def _add_weight(ties: Ties, layer: Layer, spans: dict[str, dict[tuple[int, int], list[Layer]]]) -> None:
    seen = probe(layer)
    if layer.target.weighted and seen.rows is not no_rows:
        name, place = ties.place(layer.target)
        spans.setdefault(name, {}).setdefault((place.rows.start, place.rows.stop), []).append(layer)


def _add_bias(ties: Ties, layer: Layer, biases: dict[str, list[Layer]]) -> None:
    seen, names = probe(layer), ties.names
    name, bias = ties.bias(layer.target) if isinstance(layer.target.dims.get("out"), int) else ("", None)
    if bias is not None:
        biases.setdefault(name, []).append(layer)
    elif seen.bias is not None or (names.fused_bias(layer.target) and moves_bias(layer)):
        raise Unsupported(
            f"`{layer.adapter.label}` changes the bias of `{layer.target.path}`, which has none of its own in "
            "this base, so a merged checkpoint has no place for it",
            hint="keep the adapter attached",
        )


def _bias(ties: Ties, name: str, layers: Sequence[Layer]) -> Change:
    """Where what becomes of it depends on the weight, all layers on that are there, in their order."""
    stored = ties.stored(name)
    rows = slice(0, stored.entry.shape[0])
    if not any(layer.couples for layer in layers):
        return Change(name, stored, "bias", (Span(rows, tuple(filter(moves_bias, layers))),))
    _, place = ties.place(layers[0].target)
    return Change(name, stored, "bias", (Span(rows, tuple(layers)),), below=(place.stored, place.rows))


def _require_uncoupled(layer: Layer) -> None:
    if layer.couples:
        raise Unsupported(
            f"`{layer.adapter.label}` makes the bias of `{layer.target.path}` by a weight that it brings itself",
            hint="keep the adapter attached",
        )


def no_rows(s: slice) -> Tensor:
    raise AssertionError("the weight of a probe is never read")


def probe(layer: Layer) -> View:
    """What the method makes of a layer, unread: raises `NotMergeable` early, shows whether the weight is touched."""
    return layer.merge(View(lambda: None, no_rows))


def moves_bias(layer: Layer) -> bool:
    """Whether the method adds to the bias, or scales it: asked with a bias of ones."""
    import torch

    if layer.couples:
        return True
    ones = torch.ones(layer.target.shape[0])
    moved = layer.merge(View(lambda: None, no_rows, lambda: ones)).bias
    return moved is not None and not torch.equal(moved, ones)


def _add_replaced(
    ties: Ties,
    adapter: Adapter,
    strong: Callable[[str], float],
    strength: Callable[[str], float],
    changes: dict[str, Change],
) -> None:
    for path in adapter.replaced_paths:
        if path in adapter.grounds.values():
            continue  # under the adapter's own delta
        value = adapter.tensors[f"{path}:{REPLACED}"]
        weight = strong(path) * strength(path)
        if weight != 1.0:
            raise phrases.no_strength(path, adapter.label, weight)
        name, stored = ties.find(path)
        if stored is None and (ties.checkpoint.of_images or ties.names.spelled(path) is not None):
            raise ties.names.missing(path)  # which file it would belong into, by what name, in what order, is not known
        _put(changes, Change(name, stored, "replaced", value=value))


def _put(changes: dict[str, Change], change: Change) -> None:
    if change.name in changes:
        raise NotPossible(
            f"`{change.name}` is replaced as a whole by one adapter and changed by another (or twice by one): "
            "which comes first is not known",
            hint="drop it from one of them",
        )
    changes[change.name] = change


def _refuse_overlap(name: str, ranges: Mapping[tuple[int, int], Sequence[Layer]]) -> None:
    end = -1
    for start, stop in sorted(ranges):
        if start < end:
            raise Unsupported(
                f"adapters meet `{name}` both as a whole and as one of its fused parts", hint="merge them in turn"
            )
        end = stop


def _refuse_mixed(changes: Mapping[str, Change]) -> None:
    for change in changes.values():
        for span in change.spans:
            require_one_kind(change.name, span.layers, "merge them in turn")


def _refuse_dtypes(changes: Mapping[str, Change]) -> None:
    for change in changes.values():
        if change.packed is not None and change.what == "copy":
            raise Unsupported(
                f"`{change.name}` would become a copy of `{change.packed.name}`, which lies packed",
                hint="merge with `--tied both`",
            )
        if change.stored is not None and change.stored.entry.dtype not in FLOATS:
            raise Unsupported(
                f"`{change.name}` is stored as {change.stored.entry.dtype}, and how that is read is said nowhere",
                hint="give the folder with the model's `config.json`, or merge into the unquantised base",
            )
