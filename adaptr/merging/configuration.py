"""The configuration of a merged checkpoint: what it says of ties, sizes, labels and class is true of the tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adaptr.adapter import Adapter
from adaptr.bulk.change import Plan
from adaptr.changes.tied import contradicted
from adaptr.checkpoint.names import Names
from adaptr.checkpoint.open import Checkpoint
from adaptr.foreign.peft.writing import TASKS
from adaptr.models import heads, sizes, tying
from adaptr.models.sizes import Config, Shape

Shapes = dict[str, Shape]


def configured(checkpoint: Checkpoint, todo: Plan, adapters: Sequence[Adapter]) -> tuple[Config, list[str]]:
    """(the configuration of the output, notes). Raises `TargetMismatch` where none fits the sizes of the tensors."""
    config, notes = _said_of_ties(checkpoint, todo)
    names = Names(checkpoint)
    new, strange = _new(names, todo)
    if not new and not strange:
        named = _of_classes(config, adapters)
        return named, [*notes, *_told(config, named)]
    if names.loading is None:
        told = ", ".join(f"`{name}`" for name in (*new, *strange))
        return config, [
            *notes,
            f"whether the configuration describes {told} is unknown: transformers has no such model",
        ]
    shapes = {**_shapes(names), **new, **strange}
    if new:
        config = _of_classes(sizes.resized(config, shapes, new), adapters)
    if strange:
        found = heads.headed(config, shapes, strange, _wanted(adapters))
        notes += [] if found else [f"no class of this model has {', '.join(f'`{name}`' for name in strange)}"]
        config = _of_classes(found or config, adapters)
    return config, [*notes, *_told(checkpoint.config, config)]


def _said_of_ties(checkpoint: Checkpoint, todo: Plan) -> tuple[Config, list[str]]:
    if todo.untied:
        return tying.without(checkpoint.config), []
    differ = contradicted(checkpoint, todo.changes)
    if not differ:
        return checkpoint.config, []
    names = " and ".join(f"`{stored.name}`" for stored in differ[0].stored)
    if not tying.separable(checkpoint.config):
        why = f"{names} differ, and the model ties them whatever is said: readers disagree on which counts"
        return checkpoint.config, [why]
    why = f"{names} differ in the base, whose configuration ties them; the output's says `{tying.FLAG}: false`"
    return tying.without(checkpoint.config), [why]


def _of_classes(config: Config, adapters: Sequence[Adapter]) -> Config:
    """With the names of the classes that a head which adapters bring was trained on, if they agree on them."""
    names = sizes.classes(adapters)
    if not names:
        return config
    ids = {str(i): name for i, name in enumerate(names)}
    return {**config, sizes.LABELS: ids, "label2id": {name: i for i, name in enumerate(names)}}


def _new(names: Names, todo: Plan) -> tuple[Shapes, Shapes]:
    """Parameters that get another shape than the base's, and those that it does not have, by the model's names."""
    new: Shapes = {}
    strange: Shapes = {}
    for change in todo.changes.values():
        shape = tuple(change.value.shape) if change.value is not None else ()
        if change.value is None or (change.stored is not None and change.stored.entry.shape == shape):
            continue
        files = names.loading.names if names.loading is not None else {}
        live = files.get(change.name) or (names.live(change.name) or change.name)
        (new if change.stored is not None else strange)[live] = shape
    return new, strange


def _shapes(names: Names) -> Shapes:
    """The shapes of the parameters that the base's tensors are read into; of those that are made of them, anything."""
    assert names.loading is not None
    tensors = names.checkpoint.tensors
    read = {live: tensors[stored].entry.shape for stored, live in names.loading.names.items()}
    return {**dict.fromkeys(names.loading.conversions, (-1,)), **read}


def _wanted(adapters: Sequence[Adapter]) -> tuple[str, ...]:
    """The classes that the adapters were trained on, or the ends of their names."""
    found: list[str] = [adapter.base.architecture for adapter in adapters if adapter.base.architecture]
    for adapter in adapters:
        task = adapter.foreign.get("peft", {}).get("config", {}).get("task_type")
        found += [end for end, one in TASKS if one == task]
    return tuple(found)


def _told(before: Config, after: Config) -> list[str]:
    """What the configuration says otherwise, for the report."""
    changed = sorted(_changed(before, after))
    return [f"config.json says {', '.join(changed)}"] if changed else []


def _changed(before: Mapping[str, Any], after: Mapping[str, Any], above: str = "") -> list[str]:
    found = []
    for key, value in after.items():
        old = before.get(key)
        if key == sizes.LABELS and old != value:
            found.append(f"{len(value)} labels")
        elif isinstance(value, dict) and key != sizes.NUMBERS:
            found += _changed(old if isinstance(old, dict) else {}, value, f"{above}{key}.")
        elif old != value and key not in {tying.FLAG, sizes.NUMBERS}:
            found.append(f"`{above}{key}` {value[0] if isinstance(value, list) and value else value}")
    return found
