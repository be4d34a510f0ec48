"""What a merge does to a checkpoint, as values: layers on spans of tensors, changes, and the plan of them all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from adaptr import plugins
from adaptr.adapter import Adapter, Target
from adaptr.adapter.tensors import Tensors
from adaptr.checkpoint.packed import Packed
from adaptr.checkpoint.stored import Stored
from adaptr.contract import View

if TYPE_CHECKING:
    from torch import Tensor

    from adaptr.families.base import Method

FLOATS = {"F64", "F32", "F16", "BF16"}
Tied = Literal["both", "untie"] | None


class Solid(Mapping[str, "Tensor"]):
    """The same tensors, each contiguous and at a multiple of 64 bytes.

    Matrix products round differently for other strides and alignments, and `unmerge` must see what `merge` saw.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def __getitem__(self, key: str) -> Tensor:
        solid = self._tensors[key].detach().cpu().contiguous()
        return solid if solid.data_ptr() % 64 == 0 else solid.clone()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


@dataclass(frozen=True)
class Layer:
    """One adapter at one target, at a strength."""

    adapter: Adapter
    target: Target
    weight: float

    @property
    def method(self) -> Method:
        return plugins.method(self.adapter.method)

    def merge(self, base: View) -> View:
        hooks = plugins.hooks(self.adapter.method)
        merged: View = hooks.merge(adapter=self.adapter, target=self.target, base=base, weight=self.weight)
        return merged

    def unmerge(self, merged: View, kept: Mapping[str, Tensor]) -> View:
        hooks = plugins.hooks(self.adapter.method)
        below: View = hooks.unmerge(
            adapter=self.adapter, target=self.target, merged=merged, kept=kept, weight=self.weight
        )
        return below

    @property
    def couples(self) -> bool:
        """Whether what it makes of a bias depends on the weight below."""
        found: bool = self.method.couples(self.method.config(self.target.config))
        return found

    @property
    def by_rows(self) -> bool:
        """Whether a block of rows of the merged weight needs only that block of what is below."""
        found: bool = self.method.by_rows(self.method.config(self.target.config))
        return found

    @property
    def travels(self) -> bool:
        """Whether its inverse has the same bits on every machine."""
        found: bool = self.method.travels(self._own, self.method.config(self.target.config))
        return found

    @property
    def _own(self) -> Tensors:
        return self.adapter.at(self.target.path)

    def keep_whole(self) -> dict[str, Tensor]:
        method = self.method
        kept: dict[str, Tensor] = method.keep_whole(self._own, method.config(self.target.config), self.weight)
        return kept

    def keep(self, base: View, rows: slice) -> dict[str, Tensor]:
        method = self.method
        kept: dict[str, Tensor] = method.keep(base, self._own, method.config(self.target.config), rows)
        return kept


@dataclass(frozen=True)
class Span:
    """Rows of a stored tensor and the layers on them, bottom first."""

    rows: slice
    layers: tuple[Layer, ...]

    @property
    def target(self) -> Target:
        return self.layers[0].target


@dataclass(frozen=True)
class Change:
    """One tensor of the output that differs from the base.

    `stored`: the base's tensor whose bytes it starts from. `spans`: for weights and biases. `value`: for whole replaced
    parameters. `name` is not the stored one's where a tied weight is untied or a head is added. `above`: the
    layer whose delta is in `value`. `ground`: whether `value` is only what another use of a tied weight has under it.
    `below`: of a bias, the weight that what becomes of it depends on, and which rows of it.
    """

    name: str
    stored: Stored | None
    what: Literal["weight", "bias", "replaced", "copy"]
    spans: tuple[Span, ...] = ()
    value: Tensor | None = None
    above: Layer | None = None
    ground: bool = False
    below: tuple[Stored, slice] | None = None

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The adapters' layers that it is made of."""
        own = () if self.above is None else (self.above,)
        return (*own, *(layer for span in self.spans for layer in span.layers))

    @property
    def added(self) -> bool:
        return self.stored is None or self.name != self.stored.name

    @property
    def packed(self) -> Packed | None:
        """The stored tensor, where it is one that lies packed."""
        return self.stored if isinstance(self.stored, Packed) else None


@dataclass(frozen=True)
class Plan:
    """All changes to a checkpoint. `untied`: the output no longer ties its embeddings."""

    changes: Mapping[str, Change]
    untied: bool = False
    targets: int = 0
