"""LowRank: D = s B A, the operator behind LoRA and everything that converts to it exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from adaptr.view import View

if TYPE_CHECKING:
    from torch import Tensor


class LowRank:
    """D = scale * B A, with A (*e, r, in, *k) and B (*e, out, r, *1). Never dense unless asked.

    With a kernel, D is the convolution that applies A with the layer's geometry and B point by point; with experts, one
    product for each.
    """

    __slots__ = ("A", "B", "scale")

    def __init__(self, B: Tensor, A: Tensor, scale: float = 1.0) -> None:
        self.B, self.A, self.scale = B, A, scale

    def __mul__(self, weight: float) -> LowRank:
        return self if weight == 1.0 else LowRank(self.B, self.A, self.scale * weight)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.A, self.B)

    def dense(self) -> Tensor:
        """The whole delta, in the factors' dtype."""
        return self._product(self.B, _is_experts(self.A, self.B))

    def add_rows(self, rows: Tensor, s: slice) -> Tensor:
        """`rows` of a weight plus the same rows of D; the sum is in the dtype of `rows`."""
        import torch

        if self.A.ndim == 2:
            B, A = self.B[s].to(rows.dtype), self.A.to(rows.dtype)
            return torch.addmm(rows, B, A, alpha=self.scale)
        if _is_experts(self.A, self.B, rows):
            return torch.baddbmm(rows, self.B[s].to(rows.dtype), self.A[s].to(rows.dtype), alpha=self.scale)
        return rows + self._product(self.B[s], experts=False).to(rows.dtype)

    def add_cols(self, cols: Tensor, s: slice) -> Tensor:
        """`cols` of a matrix (out, in) plus the same columns of D."""
        return LowRank(self.B, self.A[:, s], self.scale).add_rows(cols, slice(None))

    def _product(self, B: Tensor, experts: bool) -> Tensor:
        if experts:
            return self.scale * (B @ self.A)
        product: Tensor = (B.flatten(1) @ self.A.flatten(1)).view(-1, *self.A.shape[1:])
        return self.scale * product

    def forward(self, base: View, x: Tensor, given: Tensor | None = None) -> Tensor:
        """base(x) + D x for whatever layer `base` is. `given` replaces x on the side of D (dropped-out input)."""
        import torch

        A, B = self.A, self.B
        if A.ndim != 2 or not x.is_floating_point():
            return self._general(base, x, x if given is None else given)
        exact = x.dtype == A.dtype and not torch.is_autocast_enabled(x.device.type)
        learning = torch.is_grad_enabled() and (A.requires_grad or B.requires_grad)
        if learning and exact and given is None and _frozen(base):
            fused: Tensor = _functions().apply(x, base.plain, base.bias, A, B, self.scale)
            return fused
        y: Tensor = base.call(x)
        side = x if given is None else given
        tracked = learning or (torch.is_grad_enabled() and y.requires_grad)
        if tracked or not exact or y.dtype != x.dtype or not y.is_contiguous():
            return y + self._side(side.to(A.dtype)).to(y.dtype)
        h = side.reshape(-1, A.shape[1]) @ A.t()
        y.view(-1, B.shape[0]).addmm_(h, B.t(), alpha=self.scale)
        return y

    def _general(self, base: View, x: Tensor, x_side: Tensor) -> Tensor:
        """Look-up tables and convolutions: A takes the layer's place, B follows point by point."""
        y: Tensor = base(x)
        assert base.op is not None
        if not x.is_floating_point():
            return y + self.scale * (base.op(x_side, self.A, None) @ self.B.t()).to(y.dtype)
        x_side = x_side.to(self.A.dtype)
        channels = base.axis  # counted from the end, as a convolution's input may have no batch
        if self.A.shape[1] != x.shape[channels]:  # grouped: D has the layer's shape, A has not
            return y + base.op(x_side, self._product(self.B, experts=False), None).to(y.dtype)
        hidden = base.op(x_side, self.A, None)
        out: Tensor = self.B.flatten(1) @ hidden.flatten(channels + 1)
        return y + self.scale * out.view(y.shape).to(y.dtype)

    def _side(self, x: Tensor) -> Tensor:
        from torch.nn.functional import linear

        return self.scale * linear(linear(x, self.A), self.B)


def _frozen(base: View) -> bool:
    """Whether `base` is a plain linear layer that does not learn, as the fused path takes for granted."""
    if base.plain is None or base.plain.requires_grad:
        return False
    bias = base.bias
    return bias is None or not bias.requires_grad


def _is_experts(A: Tensor, B: Tensor, W: Tensor | None = None) -> bool:
    """Whether the factors are stacks (e, r, in) and (e, out, r), not those of a 1-d convolution (r, in, k) and (out,
    r, 1).

    Where both fit, the weight's own shape (e, out, in) or (out, in, k) tells.
    """
    fits = A.ndim == 3 and B.ndim == 3 and B.shape[0] == A.shape[0] and B.shape[2] == A.shape[1]
    return fits and (W is None or W.shape[1] == B.shape[1])


def _functions() -> Any:
    from adaptr.algebra.fused import LinearLowRank

    return LinearLowRank
