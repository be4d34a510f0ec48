"""From an adapter to what a batch needs of it at each layer, or the reason why there is no such thing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from adaptr import plugins
from adaptr import targets as places
from adaptr.adapter import Adapter, Target
from adaptr.adapter.tensors import all_at_least
from adaptr.changes.plan import members
from adaptr.contract import View, mounts
from adaptr.errors import Unsupported, phrases
from adaptr.families.row import Apart, Row
from adaptr.host.finding import site
from adaptr.host.identity import content_of, other_weights, quantization_of
from adaptr.host.layer import original, view_of
from adaptr.host.names import current, formerly
from adaptr.host.own import alone
from adaptr.host.packed import require_sound
from adaptr.host.uses import use

#: All of a target that a model is asked for: its path, kind and shape.
Place = tuple[str, str, tuple[int, ...]]


@dataclass(frozen=True)
class Fitted:
    """What a row needs, by path: of layers, and of places whose output is its own."""

    rows: Mapping[str, Row]
    places: Mapping[str, Apart]


def require(model: nn.Module, adapter: Adapter, matched: set[Place] | None = None) -> None:
    """All that can be known to be wrong from the header alone, so that thousands are registered in no time.

    `matched`: places that were found in the model before and are not looked for again; grows. Raises `Unsupported` for
    what can't be a row of a batch, `TargetNotFound`, `TargetMismatch`.
    """
    matched = set() if matched is None else matched
    require_sound(model)
    parts = [part for _, part, _ in _members(adapter)]
    if not any(part.targets for part in parts):
        raise phrases.no_targets(adapter.label, "registering")
    for part in parts:
        method = plugins.method(part.method)
        if method.no_row:
            raise method.rowless()
        if not matched.issuperset(map(_place, part.targets.values())):
            _match(model, current(model, part), matched)


def _match(model: nn.Module, part: Adapter, matched: set[Place]) -> None:
    for path, target in part.targets.items():
        if target.is_place:
            mount = mounts.of(target)
            site(mount.site).check(model, plugins.method(part.method), mount, target, False)
            matched.add(_place(target))
            continue
        if not target.is_linear:
            raise Unsupported(
                f"`{part.label}` adapts `{path or 'the model'}`, of kind `{target.kind}`, and rows of a batch "
                "have adapters of their own at linear layers and at outputs of modules alone",
                hint="attach this one to a model of its own",
            )
        places.match(model, target)
        if use(model, path).bypassed or alone(places.submodule(model, path)):
            raise Unsupported(
                f"`{part.label}` adapts `{path}`, which is no linear layer that its model calls: all rows share "
                "the weight that is read",
                hint="attach this one to a model of its own",
            )
        matched.add(_place(target))


def _place(target: Target) -> Place:
    return target.path, target.kind, target.shape


def _members(adapter: Adapter) -> list[Any]:
    """The adapters that one is made of. Raises `Unsupported` where rows can't have what they do."""
    method = plugins.method(adapter.method)
    if adapter.parts and not method.can.parts:
        raise method.rowless()
    found = members(adapter)
    whole = [path for part in (adapter, *(part for _, part, _ in found)) for path in _replaced(part)]
    if whole:
        raise Unsupported(
            f"`{adapter.label}` replaces `{whole[0]}` as a whole ({len(set(whole))} such), which all rows of a "
            "batch share",
            hint="attach it to a model of its own",
        )
    return found


def _replaced(adapter: Adapter) -> list[str]:
    return [key[:-2] for key in adapter.tensors if key.endswith(":=")]


def fit(
    model: nn.Module, adapter: Adapter, dtype: torch.dtype, seen: Callable[[str, View], View] = lambda _, view: view
) -> Fitted:
    """What each layer and each place needs. `seen(path, view)` is the View of a layer that the method gets.

    Raises what `require` does, `ShapeError`, `ContentMismatch`, and `NotPossible` for deltas of no low rank.
    """
    require(model, adapter)
    rows: dict[str, Row] = {}
    apart: dict[str, Apart] = {}
    for _, given, strength in _members(adapter.held()):
        part = current(model, given)
        own = formerly(part, given)
        _require_base(model, part)
        method = plugins.method(part.method)
        for path, target in part.targets.items():
            method.check(target, part.shapes(path))
            if weight := strength(own.get(path, path)):
                base = seen(path, view_of(model, target))
                row = method.row(target, base, all_at_least(part.at(path), dtype)).weighed(weight)
                if isinstance(row, Apart):
                    apart[path] = apart[path] + row if path in apart else row
                else:
                    rows[path] = rows[path] + row if path in rows else row
    return Fitted(rows, apart)


def _require_base(model: nn.Module, adapter: Adapter) -> None:
    wanted = adapter.base.content
    asked = wanted and not quantization_of(model)
    found = content_of(model, adapter.targets) if asked else ""
    if found and found != wanted:
        hint = "load the right revision, or add `adapter.replace(base=adaptr.Base())` to use it anyway"
        raise other_weights(adapter, "the base", hint)


def features_of(model: nn.Module) -> list[int]:
    """The sizes of the inputs and outputs of all linear layers but the head, whose output is no multiple of any."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    linear = (m for m in model.modules() if isinstance(m, nn.Linear) or original(m).__name__ == "Conv1D")
    return [size for m in linear if m is not head for size in _shape(m)]


def _shape(module: nn.Module) -> tuple[int, int]:
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    rows, cols = module.get_parameter("weight").shape
    return cols, rows
