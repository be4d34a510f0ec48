"""LowRank: D = s B A, the operator behind LoRA and everything that converts to it exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
        return self._product(self.B)

    def add_rows(self, rows: Tensor, s: slice) -> Tensor:
        """`rows` of a weight plus the same rows of D; the sum is in the dtype of `rows`."""
        import torch

        if self.A.ndim == 2:
            B, A = self.B[s].to(rows.dtype), self.A.to(rows.dtype)
            return torch.addmm(rows, B, A, alpha=self.scale)
        if self.A.ndim == 3 and self.B.ndim == 3 and self.B.shape[-1] != 1:
            return torch.baddbmm(rows, self.B[s].to(rows.dtype), self.A[s].to(rows.dtype), alpha=self.scale)
        return rows + self._product(self.B[s]).to(rows.dtype)

    def _product(self, B: Tensor) -> Tensor:
        if _is_experts(self.A, self.B):
            return self.scale * (B @ self.A)
        return self.scale * (B.flatten(1) @ self.A.flatten(1)).unflatten(1, self.A.shape[1:])

    def forward(self, base: View, x: Tensor, given: Tensor | None = None) -> Tensor:
        """base(x) + D x for whatever layer `base` is. `given` replaces x on the side of D (dropped-out input)."""
        import torch

        x_side = x if given is None else given
        if self.A.ndim != 2 or not x.is_floating_point():
            return self._general(base, x, x_side)
        learning = torch.is_grad_enabled() and (self.A.requires_grad or self.B.requires_grad)
        same = x.dtype == self.A.dtype and not _autocast(x)
        if learning:
            if given is None and same and base.plain is not None and not base.plain.requires_grad:
                fused: Tensor = _functions().apply(x, base.plain, base.bias, self.A, self.B, self.scale)
                return fused
            return self._general(base, x, x_side)
        y: Tensor = base(x)
        if not same or y.dtype != x.dtype or (torch.is_grad_enabled() and y.requires_grad):
            return y + self._side(x_side.to(self.A.dtype)).to(y.dtype)
        h = x_side.reshape(-1, x.shape[-1]) @ self.A.t()
        y.view(-1, y.shape[-1]).addmm_(h, self.B.t(), alpha=self.scale)
        return y

    def _general(self, base: View, x: Tensor, x_side: Tensor) -> Tensor:
        y: Tensor = base(x)
        if self.A.ndim == 2 and x.is_floating_point():
            return y + self._side(x_side.to(self.A.dtype)).to(y.dtype)
        assert base.op is not None
        if x.is_floating_point() and self.A.shape[1] != x.shape[1]:  # grouped convolution: D has its shape, A has not
            return y + base.op(x_side.to(self.A.dtype), self.dense(), None).to(y.dtype)
        hidden = base.op(x_side.to(self.A.dtype) if x.is_floating_point() else x_side, self.A, None)
        if self.B.ndim == 2:
            return y + self.scale * (hidden @ self.B.t()).to(y.dtype)
        out = (self.B.flatten(1) @ hidden.flatten(2)).unflatten(2, hidden.shape[2:])
        return y + self.scale * out.to(y.dtype)

    def _side(self, x: Tensor) -> Tensor:
        from torch.nn.functional import linear

        return self.scale * linear(linear(x, self.A), self.B)


def _is_experts(A: Tensor, B: Tensor) -> bool:
    return A.ndim == 3 and B.ndim == 3 and B.shape[0] == A.shape[0] and B.shape[2] == A.shape[1]


def _autocast(x: Tensor) -> bool:
    import torch

    return torch.is_autocast_enabled(x.device.type)


def _functions() -> type:
    from adaptr.algebra.fused import LinearLowRank

    return LinearLowRank
