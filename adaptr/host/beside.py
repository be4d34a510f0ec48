"""Several low-rank adapters on one layer are one: Σ cᵢ Bᵢ Aᵢ is a product of the sum of their ranks.

Their factors are moved to lie behind each other in memory, so that all of them, or those next to each other that are at
work, are one A (R, in) and one Bᵀ (R, out) without a copy: changing strengths, or which adapter is active, moves
nothing.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import linear

from adaptr.algebra import fused
from adaptr.contract import View
from adaptr.precision import autocasts

if TYPE_CHECKING:
    from adaptr.host.state import State

Call = Callable[[Tensor], Tensor]
#: A, Bᵀ, c and alpha of what is at work.
Part = tuple[Tensor | None, Tensor, Tensor | None, float]
_MOVING = threading.Lock()
#: How many choices of strengths a layer remembers.
KEPT = 32


def runs(states: Iterable[State]) -> Iterator[list[State]]:
    """The states in their order, those next to each other that can be one product in one list."""
    run: list[State] = []
    for state in states:
        if run and not (_low_rank(state) and _low_rank(run[-1])):
            yield run
            run = []
        run.append(state)
    if run:
        yield run


def _low_rank(state: State) -> bool:
    return state.method.factors(state.cfg) is not None


def together(base: View, run: Sequence[State]) -> View:
    """The layer `base` with the adapters of a run on it. At strength 0 an adapter is not there.

    Where they are one product, the strengths are looked at in each call: a change needs no new View.
    """
    one = len(run) > 1 and _fit(base, run)
    for state in run:
        if state.heeded is not one:
            state.__dict__["heeded"] = one
    if not one:
        return _in_turn(base, run)
    kept: dict[tuple[float, ...], View] = {}

    def slow() -> View:
        """One after the other, for all but plain inference; made when it is wanted."""
        strengths = tuple(state.strength for state in run)
        found = kept.get(strengths)
        if found is None:
            kept.clear()
            found = kept[strengths] = _in_turn(base, run)
        return found

    return base.then(
        call=_one_product(base, run, lambda x: slow().call(x)),
        rows=lambda s: slow().rows(s),
        cols=lambda s: slow().cols(s),
        bias=lambda: slow().bias,
        sources=lambda: (*base.sources(), *(s for state in run for s in state.sources(state.strength))),
    )


def _in_turn(view: View, run: Sequence[State]) -> View:
    for state in run:
        if state.strength:
            view = applied(view, state)
    return view


def applied(below: View, state: State) -> View:
    """The layer `below` with one adapter, whatever its method, on it."""
    strength = state.strength
    view: View = state.method.view(below, state, state.cfg, strength)
    if view is not below:
        view.sources = lambda: (*below.sources(), *state.sources(strength))
    return view


def _fit(base: View, run: Sequence[State]) -> bool:
    """Whether the layer is linear and all factors are matrices of one dtype, in one place, that don't learn."""
    if base.plain is None or torch.compiler.is_compiling():
        return False
    tensors = [t for state in run for t in _stored(state)]
    first = tensors[0]
    if any(name in state.common for state in run for name in _names(state)):
        return False  # a factor of several layers lies in one place
    alike = all(t.ndim == 2 and t.dtype is first.dtype and t.device == first.device for t in tensors)
    return alike and not any(t.requires_grad or t.is_inference() for t in tensors)


def _one_product(base: View, run: Sequence[State], other: Call) -> Call:
    """The forward without gradients as one product; `other` is the forward for whatever is not plain inference."""
    product = _laid_out(run)
    weight, bias = base.plain_of, base.bias_of

    def call(x: Tensor) -> Tensor:
        nonlocal product
        W = weight()
        if torch.compiler.is_compiling() or torch.is_grad_enabled() or W is None:
            return other(x)
        if autocasts(x.device.type):  # which casts products, and not what is added to them in place
            return other(x)
        if product.moved():
            if not _fit(base, run):
                return other(x)
            product = _laid_out(run)
        if x.dtype is not product.dtype or W.dtype is not x.dtype:
            return other(x)
        strengths = [state.strength for state in run]
        known, (A, Bt, c, alpha) = product.chosen
        if strengths != known:
            A, Bt, c, alpha = product.choose(strengths)
        if A is None:
            return linear(x, W, bias())
        return fused.beside(x, W, bias(), A, Bt, c, alpha)

    return call


def _laid_out(run: Sequence[State]) -> _Product:
    """Two threads that move the same factors would take each other's for their own."""
    with _MOVING:
        return _Product(run)


class _Product:
    """The factors of a run as one pair, and the part of it that is at work.

    `chosen`: the strengths, and for them A (R, in), Bt (R, out) from the first adapter at work to the last, A None if
    none is; c (R), scales and strengths, 0 for adapters between that are not at work, None where all are alpha. One
    reference, as forwards of several threads may want different strengths.
    """

    def __init__(self, run: Sequence[State]) -> None:
        _lay_out(run)
        rows = [_rows(state) for state in run]
        self._all = tuple(_span(rows[0][side], rows[-1][side]) for side in (0, 1))
        self._stops = list(itertools.accumulate((len(A) for A, _ in rows), initial=0))
        self._scales = [state.method.factors(state.cfg)[2] for state in run]
        self._places = [(s._parameters, n, s[n], s[n].data_ptr()) for s in run for n in _names(s)]
        self.dtype = self._all[0].dtype
        self._chosen: dict[tuple[float, ...], Part] = {}
        ranks = torch.tensor([len(A) for A, _ in rows])
        self._owners = torch.arange(len(run)).repeat_interleave(ranks).to(self._all[0].device)
        nothing: list[float] = []
        self.chosen: tuple[list[float], Part] = nothing, (None, self._all[1], None, 0.0)

    def choose(self, strengths: list[float]) -> Part:
        """Set to work what has a strength; kept, as people switch to and fro."""
        key = tuple(strengths)
        part = self._chosen.get(key)
        if part is None:
            if len(self._chosen) >= KEPT:
                self._chosen.clear()
            part = self._chosen[key] = self._part(strengths)
        self.chosen = strengths, part
        return part

    def _part(self, strengths: list[float]) -> Part:
        working = [i for i, strength in enumerate(strengths) if strength]
        if not working:
            return None, self._all[1], None, 0.0
        first, last = working[0], working[-1]
        span = slice(self._stops[first], self._stops[last + 1])
        A, Bt = (side[span] for side in self._all)
        scales = [strength * scale for strength, scale in zip(strengths, self._scales, strict=True)]
        if all(scale == scales[first] for scale in scales[first : last + 1]):
            return A, Bt, None, scales[first]
        return A, Bt, A.new_tensor(scales)[self._owners[span]], 1.0

    def moved(self) -> bool:
        """Whether a factor lies elsewhere since, or another tensor was put in its place."""
        return any(held[name] is not p or p.data_ptr() != place for held, name, p, place in self._places)


def _names(state: State) -> tuple[str, str]:
    b, a, _ = state.method.factors(state.cfg)
    return a, b


def _stored(state: State) -> tuple[Tensor, Tensor]:
    a, b = _names(state)
    return state[a], state[b]


def _rows(state: State) -> tuple[Tensor, Tensor]:
    """(A, Bᵀ), of shapes (r, in) and (r, out)."""
    A, B = _stored(state)
    return A, B.t()


def _lay_out(run: Sequence[State]) -> None:
    """Move the factors behind each other, unless they are so already. What they were is no longer referred to."""
    for side in (0, 1):
        parts = [_rows(state)[side] for state in run]
        if all(_follows(two, one) for one, two in itertools.pairwise(parts)):
            continue
        with torch.inference_mode(False), torch.no_grad():
            held = torch.cat([part.detach() for part in parts])
        for state, rows in zip(run, torch.split(held, [len(part) for part in parts]), strict=True):
            _stored(state)[side].data = rows if side == 0 else rows.t()


def _follows(two: Tensor, one: Tensor) -> bool:
    """Whether `two` lies right behind `one` in the same memory, both row by row."""
    solid = one.is_contiguous() and two.is_contiguous()
    same = one.untyped_storage().data_ptr() == two.untyped_storage().data_ptr()
    return solid and same and two.storage_offset() == one.storage_offset() + one.numel()


def _span(first: Tensor, last: Tensor) -> Tensor:
    """The rows from the first of `first` to the last of `last`, which lie in one piece of memory."""
    width = first.shape[1]
    rows = (last.storage_offset() - first.storage_offset()) // width + last.shape[0]
    return first.detach().as_strided((rows, width), (width, 1))
