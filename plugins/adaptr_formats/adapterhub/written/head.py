"""The head of a model as AdapterHub has it: what an adapter has whole of the layers that both have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptr.adapter import REPLACED
from adaptr.adapter.keys import in_part, part_keys
from adaptr.errors import Unsupported, phrases
from adaptr.foreign import same, saving
from adaptr_formats.adapterhub.heads import layouts
from adaptr_formats.adapterhub.heads.reading import CONFIG, FILES, METHOD

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.adapter import Adapter
    from adaptr.foreign.same import Same
    from adaptr_formats.adapterhub.heads.layouts import Layout

#: Kinds whose configuration says the pooler, and the bias.
_POOLED = frozenset({*layouts.TEXTS, layouts.IMAGES})


@dataclass(frozen=True)
class Head:
    """`paths`: an adapter's whole parameters, by those of the layout. `part`: its part that is the bias of the last
    layer, "" for none.
    """

    layout: Layout
    settings: Mapping[str, Any]
    said: Mapping[str, Any]
    paths: Mapping[str, str]
    part: str = ""

    @property
    def weight(self) -> str:
        """The key of the last layer's weight, "" where that is the model's table."""
        path = self.paths.get(f"{self.layout.last}.weight")
        return f"{path}:{REPLACED}" if path else ""

    @property
    def kind(self) -> str:
        kind: str = self.said.get("head_type") or min(self.layout.kinds)
        return kind


def of(adapter: Adapter) -> Head | None:
    """What of an adapter is its model's head, None where that is not one of AdapterHub's, or not all of it."""
    known = adapter.foreign.get("adapterhub", {})
    base, head = known.get("base", {}), known.get("head", {})
    named = (head.get("class"), adapter.base.architecture, base.get("class"))
    tied = {path for tie in adapter.base.ties for path in tie}
    for layout in next((layouts.LAYOUTS[name] for name in named if name in layouts.LAYOUTS), ()):
        paths, part = _paths(adapter, layout), _bias(adapter, layout)
        all_of_it = set(layout.parameters) - set(paths) <= tied and len(paths) == len(adapter.replaced_paths)
        if all_of_it and (paths or part or head):
            return Head(layout, base.get("settings", {}), head.get("config", {}), paths, part)
    return None


def _paths(adapter: Adapter, layout: Layout) -> dict[str, str]:
    """What an adapter calls the parameters of a head: of a base without one, what is the base's own has no prefix."""
    return {
        one: path for one in layout.parameters for path in adapter.replaced_paths
        if one == path or one.endswith(f".{path}")
    }  # fmt: skip


def _bias(adapter: Adapter, layout: Layout) -> str:
    """The part that scales and shifts what the last layer of a head gives; a scale has a place in its weight alone."""
    for name in adapter.parts:
        part = adapter.part(name)
        if not layout.bias and part.method == METHOD and list(part.targets) == [layout.last]:
            plain = bool((part.tensors[f"{layout.last}:s"] == 1).all())
            return name if plain or f"{layout.last}.weight" in adapter.replaced_paths else ""
    return ""


def lost(adapter: Adapter) -> list[str]:
    """The whole parameters that are no head."""
    return [] if of(adapter) else [f"the whole parameter `{path}`" for path in adapter.replaced_paths]


def without(adapter: Adapter) -> Adapter:
    """An adapter without its head's part."""
    head = of(adapter)
    if head is None or not head.part:
        return adapter
    mine = set(part_keys(adapter.tensors, head.part).values())
    return adapter.replace(
        parts={name: part for name, part in adapter.parts.items() if name != head.part},
        tensors={key: tensor for key, tensor in adapter.tensors.items() if key not in mine},
    )


def write(adapter: Adapter, told: Mapping[str, Any], name: str, folder: Path) -> dict[str, str]:
    """The head's files beside an adapter's, and what its tensors are called there."""
    head = of(adapter)
    if head is None:
        return {}
    tensors = dict(_tensors(adapter, head, name))
    said = {**told, "config": _config(adapter, head), "name": name}
    (folder / CONFIG).write_text(json.dumps(said, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    saving.save(folder / FILES[0], dict(tensors.values()), {"format": "pt"})
    return {ours: theirs for ours, (theirs, _) in tensors.items()}


def _tensors(adapter: Adapter, head: Head, name: str) -> dict[str, tuple[str, Tensor | Same]]:
    """{adaptr's key: (AdapterHub's, tensor)}"""
    last = head.layout.last
    at = dict(zip(head.layout.layers, _numbers(head.layout), strict=True))
    found: dict[str, tuple[str, Tensor | Same]] = {}
    for one, path in head.paths.items():
        owner, _, slot = one.rpartition(".")
        key = f"{path}:{REPLACED}"
        value = _weight(adapter, head) if key == head.weight else same.whole(adapter, key)
        found[key] = (f"heads.{name}.{at[owner]}.{slot}", value)
    if head.part:
        key = in_part(f"{last}:t", head.part)
        found[key] = (f"heads.{name}.{at[last]}.bias", same.whole(adapter, key))
    return found


def _weight(adapter: Adapter, head: Head) -> Tensor | Same:
    """The weight of the last layer, with what it is scaled by."""
    last, factor = head.layout.last, head.layout.factor(head.settings)
    value = same.whole(adapter, head.weight)
    rows = adapter.part(head.part).tensors[f"{last}:s"].double() if head.part else None
    if factor == 1 and (rows is None or bool((rows == 1).all())):
        return value
    scaled = value.tensor.double() / factor
    return (scaled if rows is None else scaled * rows[:, None]).to(value.tensor.dtype)


def _numbers(layout: Layout) -> list[int]:
    """The numbers of the layers in AdapterHub's, which has dropouts before and functions behind."""
    if layout.kinds & layouts.WORDS:
        return [0, 2, 3] if layout.norm else [0]
    return [1, 4][: layout.count]


def _config(adapter: Adapter, head: Head) -> dict[str, Any]:
    """What makes the library's head, of which each kind knows some fields and no others."""
    layout, bias = head.layout, head.layout.bias or bool(head.part)
    function = layout.between(head.settings) if layout.count > 1 else None
    made: dict[str, Any] = {"head_type": head.kind, "layers": layout.count, "activation_function": function}
    shape = adapter.tensors[head.weight].shape if head.weight else None
    if head.kind in layouts.WORDS:
        sizes = dict(zip(("vocab_size", "embedding_size"), shape or (), strict=False))
        if head.kind == layouts.SEQUENCES:
            sizes.pop("embedding_size", None)
        shifts = head.said.get("shift_labels", head.kind == layouts.CAUSAL)
        return {**made, **sizes, "layer_norm": layout.norm, "bias": bias, "shift_labels": shifts}
    if shape is None:
        raise Unsupported(f"`{layout.last}` is tied in this model, and in AdapterHub no such head is", hint=phrases.OWN)
    choices = head.kind == layouts.CHOICES
    count = _choices(head) if choices else int(shape[0])
    made |= {"num_choices" if choices else "num_labels": count, "label2id": _names(adapter, head, count)}
    made |= {"bias": bias} if head.kind in _POOLED else {}
    made |= {"use_pooler": bool(layout.pooled)} if choices or head.kind in _POOLED else {}
    return made


def _choices(head: Head) -> int:
    found = head.said.get("num_choices")
    if not isinstance(found, int):
        raise Unsupported(
            "AdapterHub's head says how many choices a question has, and neither the model nor this adapter does",
            hint=phrases.OWN,
        )
    return found


def _names(adapter: Adapter, head: Head, count: int) -> dict[str, int] | None:
    """The answers by their names, as its file or its training has them."""
    said, trained = head.said.get("label2id"), adapter.training.get("labels")
    if isinstance(said, dict) and len(said) == count:
        return said
    names = trained if isinstance(trained, list | tuple) else ()
    return {str(name): number for number, name in enumerate(names)} if len(names) == count else None
