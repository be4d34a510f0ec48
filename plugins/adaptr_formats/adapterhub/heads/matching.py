"""Whether a head of AdapterHub's is the head of a model, and which of its tensors is which of the model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.errors import phrases, shown
from adaptr.foreign.placing import ordered
from adaptr_formats.adapterhub.config import function
from adaptr_formats.adapterhub.heads.layouts import WORDS, Layout

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Tensors:
    """The tensors of a head by their names in its file."""

    file: Mapping[str, Tensor]
    shapes: Mapping[str, tuple[int, ...]]

    def keys(self, layout: Layout) -> dict[str, str]:
        """The model's parameters, with the file's keys."""
        layers = ordered({key.rpartition(".")[0] for key in self.shapes})
        return {
            f"{path}.{name}": f"{layer}.{name}"
            for path, layer in zip(layout.layers, layers, strict=False)
            for name in ("weight", "bias")
            if f"{layer}.{name}" in self.shapes
        }


def chosen(
    layouts: Sequence[Layout],
    said: Mapping[str, Any],
    settings: Mapping[str, Any],
    tensors: Tensors,
    shapes: Mapping[str, tuple[int, ...]],
) -> tuple[Layout | None, str]:
    """The first of the model's layouts that a head is in, or why it is in none. `shapes`: of the model's parameters."""
    reasons = []
    for layout in layouts:
        why = _unlike(said, layout, settings) or _misshapen(layout, tensors, shapes)
        if not why:
            return layout, ""
        reasons.append(why)
    return None, reasons[0]


def _unlike(said: Mapping[str, Any], layout: Layout, settings: Mapping[str, Any]) -> str:
    """Why it computes something else than the model's, "" where it does not."""
    kind, pooled, count = str(said.get("head_type")), bool(said.get("use_pooler")), said.get("layers")
    if kind not in layout.kinds:
        return f"it is of `{shown(kind)}`, and the model's of {phrases.listed(sorted(layout.kinds))}"
    if layout.pooled is not None and pooled != layout.pooled:
        behind = "what the base's pooler makes"
        return f"it reads {behind}, which is no part of the file" if pooled else f"it does not read {behind}"
    if count != layout.count:
        return f"it has {shown(str(count))} layers, and the model's {layout.count}"
    between, own = function(said.get("activation_function")), function(layout.between(settings))
    if layout.count > 1 and between != own:
        return f"it has `{shown(between)}` between its layers, and the model `{own}`"
    if layout.kinds & WORDS and bool(said.get("layer_norm")) != layout.norm:
        return f"it has {'a' if said.get('layer_norm') else 'no'} norm between its layers, unlike the model's"
    other = next((name for name, value in layout.given.items() if settings.get(name) != value), None)
    return f"the model's is one that AdapterHub has not, by its `{other}`" if other else ""


def _misshapen(layout: Layout, tensors: Tensors, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Why its tensors are not those of the model's layers. That one has a bias at the end more is no reason."""
    own = {path: shapes[path] for path in layout.parameters if path in shapes}
    keys = tensors.keys(layout)
    found = {path: tensors.shapes[key] for path, key in keys.items()}
    bias = {f"{layout.last}.bias": shapes.get(f"{layout.last}.weight", ())[:1]}
    if bias | found == bias | own and len(keys) == len(tensors.shapes):
        return ""
    return f"it has shapes {list(found.values())}, and the model's head {list(own.values())}"
