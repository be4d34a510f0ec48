"""One changed weight, block by block: read, merged in fp32, rounded once; and the same way back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from adaptr.bulk.change import Layer, Span
from adaptr.checkpoint.stream import Rows
from adaptr.contract import View
from adaptr.contract.view import ALL
from adaptr.precision import widest

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

Kept = dict[int, dict[str, "Tensor"]]


class Weight:
    """A span of a stored weight and the layers on it.

    Blocks are rows of the storage. For a weight stored (out, in) these are rows of the logical weight; for one stored
    (in, out), columns. Where a method needs all of the weight at once, the span is one block.

    Layers that all add something to the weight are computed as that sum, which merging and its inverse share: for most
    adapters the product of the factors is what a merge costs.

    `portable`: with the same bits on every machine, as far as the methods can. If not, as receipts of format 2 need it.
    """

    def __init__(self, span: Span, rows: Rows, portable: bool = True) -> None:
        self.portable = portable
        self.layers, self.rows, self.target = span.layers, rows, span.target
        self.turned = self.target.transposed
        self.columns = self.turned and len(self.target.shape) == 2
        self.work = working(rows.dtype)
        self.additive = all(layer.method.can.delta for layer in self.layers)
        # views refer to rows and dtype and not to the weight: a cycle would keep the tensors of every span
        self._view = self._stack(self._nothing() if self.additive else self.stored())
        self._sum: tuple[slice, Tensor] | None = None

    @property
    def height(self) -> int:
        """Rows of the logical weight."""
        return self.target.shape[0] if self.columns else self.rows.count

    def blocks(self) -> list[slice]:
        if all(layer.method.can.colwise if self.columns else layer.by_rows for layer in self.layers):
            return self.rows.blocks()
        return [slice(0, self.rows.count)]

    def stored(self) -> View:
        """The base's own weight, in fp32."""
        rows, work = self.rows, self.work
        return self.view(lambda s: rows.read(s).to(work))

    def view(self, read: Callable[[slice], Tensor]) -> View:
        """The logical View of what `read` gives for rows of the storage."""
        exact = self.work if self.portable else None
        if self.columns:
            return View(_uncallable, lambda s: read(ALL).t()[s], cols=lambda s: read(s).t(), exact=exact)
        return View(_uncallable, (lambda s: read(s).transpose(1, 2)) if self.turned else read, exact=exact)

    def take(self, view: View, s: slice) -> Tensor:
        """Rows `s` of the storage of a View."""
        if self.columns:
            return view.cols(s).t()
        return view.rows(s).transpose(1, 2) if self.turned else view.rows(s)

    def merged(self, s: slice) -> Tensor:
        """Rows `s` of the storage with all layers on them, before they are rounded."""
        if self.additive:
            return self.rows.read(s).to(self.work, copy=True).add_(self.added(s))
        return self.take(self._view, s)

    def added(self, s: slice) -> Tensor:
        """What additive layers add to rows `s` of the storage; the last one is kept."""
        if self._sum is None or self._sum[0] != s:
            self._sum = None  # its memory is free for the next
            self._sum = (s, self.take(self._view, s))
        return self._sum[1]

    def _nothing(self) -> View:
        """A View of zeros: what additive layers make of it is what they add."""
        import torch

        zeros = torch.zeros((), dtype=self.work).expand(self.rows.count, *self.rows.tail)
        return self.view(lambda s: zeros[s])

    def _stack(self, view: View) -> View:
        for layer in self.layers:
            view = layer.merge(view)
        return view

    def keep(self, s: slice, kept: Kept) -> None:
        """Collect what the layers' inverses need, for a block `s` of the storage, into full-length tensors."""
        import torch

        s = ALL if self.columns else s
        view = self.stored()
        for number, layer in enumerate(self.layers):
            for name, part in layer.keep(view, s).items():
                whole = kept.setdefault(number, {})
                if name not in whole:  # in fp32, as the receipt will give it back
                    whole[name] = torch.empty((self.height, *part.shape[1:]))
                whole[name][s] = part
            view = layer.merge(view)

    def keep_whole(self, kept: Kept) -> None:
        """Collect what the layers' inverses need whatever the block."""
        for number, layer in enumerate(self.layers):
            found = {name: part.float() for name, part in layer.keep_whole().items()}
            if found:
                kept.setdefault(number, {}).update(found)

    @property
    def invertible(self) -> bool:
        """Whether the inverse can be had: on every machine, or where the receipt was made."""
        return all(layer.travels if self.portable else layer.method.can.inverse for layer in self.layers)

    @property
    def keeps(self) -> bool:
        """Whether any layer's inverse needs more than the adapter."""
        return any(layer.method.supplies("keep") for layer in self.layers)


class Inverse:
    """The algebraic inverse of a merged weight, block by block. `kept` may fill up while it is used."""

    def __init__(self, weight: Weight, kept: Kept) -> None:
        self.weight = weight
        if weight.additive:
            return
        # to this list and not to the inverse, for the same reason
        self._held: list[Tensor] = []
        held, work = self._held, weight.work
        view = weight.view(lambda s: held[0].to(work))
        for number, layer in reversed(list(enumerate(weight.layers))):
            view = layer.unmerge(view, kept.setdefault(number, {}))
        self._view = view

    def below(self, block: Tensor, s: slice) -> Tensor:
        """Rows `s` of the storage below, rounded, from the same rows of the merged weight."""
        self._last = block, s, self._unrounded(block, s)
        return self._last[2].to(block.dtype, copy=True)

    def _unrounded(self, block: Tensor, s: slice) -> Tensor:
        if self.weight.additive:
            return block.to(self.weight.work, copy=True).sub_(self.weight.added(s)).contiguous()
        self._held[:] = [block]
        return self.weight.take(self._view, s).contiguous()

    def exact(self, at: NDArray[Any]) -> NDArray[Any]:
        """The last block's elements at flat indices, before they were rounded: fp32, or fp64 for a block of fp32."""
        block, s, below = self._last
        if not self.weight.additive or block.element_size() < below.element_size():
            found: NDArray[Any] = below.view(-1).numpy().take(at)
            return found
        added = self.weight.added(s).reshape(-1).numpy().take(at)
        difference: NDArray[Any] = block.view(-1).numpy().take(at).astype("f8") - added
        return difference


def working(dtype: torch.dtype) -> torch.dtype:
    """What a weight stored as `dtype` is merged in: fp32, or fp64 for fp64."""
    return widest(dtype)


def merged_bias(layers: tuple[Layer, ...], stored: Tensor, below: Rows | None = None) -> Tensor:
    """All layers on a bias, before it is rounded. `below`: the weight beside it, where a layer looks at that."""
    bias = stored.to(working(stored.dtype))
    view = View(_uncallable, _uncallable)
    if below is not None:
        view = Weight(Span(slice(0, below.count), layers), below).stored()
    view = view.then(bias=lambda: bias)
    for layer in layers:
        view = layer.merge(view)
    assert view.bias is not None
    return view.bias


def _uncallable(*_: object) -> NoReturn:
    raise AssertionError("a weight read from a checkpoint has no forward")


def in_order(spans: tuple[Span, ...], count: int) -> Iterator[tuple[slice, Span | None]]:
    """All rows of a tensor as ranges: those of spans, and those between that stay."""
    at = 0
    for span in spans:
        if span.rows.start > at:
            yield slice(at, span.rows.start), None
        yield span.rows, span
        at = span.rows.stop
    if at < count:
        yield slice(at, count), None
