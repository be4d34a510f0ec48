"""AdapterHub's invertible adapters: NICE couplings at the embeddings, and back before the output head.

Behind the embeddings' positions, which GPT-2's table of words is not. Its GLOW couplings its own library can't compute
with: they come out as a list, of slices of the wrong axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adaptr.adapter import Target, kinds
from adaptr.errors import Unsupported, shown
from adaptr.foreign import placing
from adaptr.foreign.pieces.module import Layer, Module, complete
from adaptr_formats.adapterhub import keys, places
from adaptr_formats.adapterhub.config import activation

if TYPE_CHECKING:
    from adaptr_formats.adapterhub.reading import Reading

NICE = "nice"
_NAMES = {"D": "0.weight", "b": "0.bias", "U": "2.weight", "c": "2.bias"}
#: By adaptr's names.
SLOTS = {f"{side}_{name}": f"{side}.{slot}" for side in "FG" for name, slot in _NAMES.items()}


def read(reading: Reading, said: Mapping[str, Any]) -> Iterator[Layer]:
    """`said`: of the bottleneck that it is of."""
    if said["inv_adapter"] != NICE:
        raise Unsupported(
            f"its invertible adapter is `{shown(str(said['inv_adapter']))}`, with which AdapterHub's own library can't "
            "compute",
            hint=f"train it with `inv_adapter={NICE!r}`",
        )
    where = places.model(reading.said.model_type).embeddings
    if not where:
        raise Unsupported(
            f"adaptr has no place for AdapterHub's invertible adapters in a model of type `{reading.said.model_type}`",
            hint="train it with `inv_adapter=None`",
        )
    for module in reading.modules(keys.INVERTIBLE):
        yield _layer(reading, module, f"{module.path}.{where}".removeprefix("."), said)


def _layer(reading: Reading, module: Module, path: str, said: Mapping[str, Any]) -> Layer:
    inner, half = module.shape(SLOTS["F_D"], (2,))
    module.require(SLOTS["F_D"], half % inner == 0, f"rows that divide {half}")
    sizes = {"D": (inner, half), "b": (inner,), "U": (half, inner), "c": (half,)}
    for name, slot in SLOTS.items():
        want = sizes[name[-1]]
        module.require(slot, module.shape(slot, (len(want),)) == want, f"{want}, as the others say")
    values = {"reduction": half // inner, "activation": activation(said["non_linearity"])}
    target = Target(path, kinds.PLACE, (2 * half,), complete("invertible", values))
    pieces = {name: module.piece(slot, sizes[name[-1]]) for name, slot in SLOTS.items()}
    return Layer("invertible", placing.output(reading.model, target), pieces)
