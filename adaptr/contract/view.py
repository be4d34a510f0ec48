"""A `View` is a layer whose weight is lazy. Adapters turn a View into a View.

    delta      call = base(x) + delta(x)      rows = base.rows + delta.rows
    transform  call = op(x, T(W), b)          rows = T(base.rows)
    insert     call = f(base(x), x)           rows raise NotMergeable

A stack of adapters is function composition, and merging a stack is reading the weight of the composed View once:
attached and merged are two readings of one object and can't disagree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Rows = Callable[[slice], Tensor]
    #: A layer's forward.
    Call = Callable[[Tensor], Tensor]
    Op = Callable[[Tensor, Tensor, Tensor | None], Tensor]

ALL = slice(None)


class View:
    """A layer as adapters see it.

    `call`: the forward. `rows(s)`: rows `s` of the logical weight (*e, out, in, *k), in the dtype of whoever reads
    (fp32 when merging). `cols(s)`: columns `s`, for weights that are stored transposed and read in blocks of their
    storage. `bias()`: the bias or None. `op(x, W, b)`: what this kind of layer does with a weight, for methods that
    need `x` through another weight. `plain`: the weight itself where `call` is nothing but `op(x, plain, bias)`, else
    None; lets a delta fuse with the layer below it. `parts`: the tensors of the adapters in it. `sources()`: all that
    a live weight depends on, tensors, strengths and order, so that what is derived from it can be kept; the host says
    it. `axis`: where the output features are in the output, from the end: before the kernel's dimensions in
    convolutions. `exact`: of a weight that is read in many parts, with the same bits on every machine, the dtype in
    which it is read; None where that is not promised. Nothing that it is made of changes meanwhile. `grid`: how the
    weight itself is quantised in a live model, such as `nf4`, where `call` is that layer and nothing else.
    """

    __slots__ = ("_bias", "axis", "call", "cols", "exact", "grid", "op", "parts", "plain_of", "rows", "sources")

    def __init__(
        self,
        call: Callable[..., Any],
        rows: Rows,
        bias: Callable[[], Tensor | None] = lambda: None,
        op: Op | None = None,
        plain: Callable[[], Tensor | None] = lambda: None,
        parts: tuple[Tensor, ...] = (),
        sources: Callable[[], tuple[Any, ...]] = tuple,
        axis: int = -1,
        cols: Rows | None = None,
        exact: torch.dtype | None = None,
        grid: str = "",
    ) -> None:
        self.call, self.rows, self._bias, self.op = call, rows, bias, op
        self.plain_of, self.parts, self.sources, self.axis = plain, parts, sources, axis
        self.cols, self.exact, self.grid = cols or (lambda s: rows(ALL)[:, s]), exact, grid

    def __call__(self, *args: object, **kwargs: object) -> Any:
        return self.call(*args, **kwargs)

    @property
    def weight(self) -> Tensor:
        """The whole logical weight."""
        return self.rows(ALL)

    @property
    def plain(self) -> Tensor | None:
        """Asked for each time: the weight of a transposed layer is a view, which moving the layer leaves behind."""
        return self.plain_of()

    @property
    def bias_of(self) -> Callable[[], Tensor | None]:
        """What gives the bias, for those who ask often."""
        return self._bias

    @property
    def bias(self) -> Tensor | None:
        return self._bias()

    def then(self, **changes: Any) -> View:
        """A View on top of this one; what is not given stays, except that it is no longer plain."""
        return View(
            call=changes.get("call", self.call),
            rows=changes.get("rows", self.rows),
            bias=changes.get("bias", self._bias),
            op=changes.get("op", self.op),
            parts=self.parts + changes.get("parts", ()),
            sources=changes.get("sources", self.sources),
            axis=self.axis,
            cols=changes.get("cols") or (None if "rows" in changes else self.cols),
            exact=self.exact,
        )

    def along(self, vector: Tensor) -> Tensor:
        """`vector` over the features, shaped to meet the layer's output (or input)."""
        return vector if self.axis == -1 else vector.view(-1, *(1 for _ in range(-1 - self.axis)))


def of_weight(weight: Tensor, bias: Tensor | None = None) -> View:
    """A View of a bare weight: what merging reads. It can't be called."""

    def call(*_: object, **__: object) -> NoReturn:
        raise TypeError("a view of a bare weight has no forward")

    return View(call, lambda s: weight[s], lambda: bias)
