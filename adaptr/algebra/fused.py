"""A delta on a live linear layer, with as little as can be between the layer and the result.

Of one that is dense, layer and delta are one product with W + D.

Without gradients a low-rank delta is accumulated into the layer's own output. While training over a frozen layer the
two are one autograd node:

The plain chain linear, linear, scale, add allocates four outputs and their gradients. Here the delta is accumulated
into the layer's own output, and its input gradient into the layer's: two extra thin products each way, and r numbers a
token kept for the backward.
"""

# torch is imported at module level here: this file is only imported from inside a forward.
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

from adaptr.precision import autocasts, widest

if TYPE_CHECKING:
    from adaptr.algebra.lowrank import LowRank
    from adaptr.algebra.operator import Operator
    from adaptr.contract import View


def forward(op: LowRank, base: View, x: Tensor, given: Tensor | None) -> Tensor:
    """base(x) + s (x Aᵀ) Bᵀ for x (..., in); `given` replaces x on the side of the delta."""
    A, B = op.A, op.B
    if torch.is_grad_enabled():
        return _with_gradients(op, base, x, given)
    W = base.plain
    y: Tensor = base.call(x) if W is None else linear(x, W, base.bias)
    side = x if given is None else given
    if y.dtype is not x.dtype or x.dtype is not A.dtype or not y.is_contiguous():
        return y + op.side(base, side).to(y.dtype)
    _add(y, linear(side, A), B.t(), op.scale)
    return y


def bound(
    base: View, parameters: Mapping[str, Tensor | None], scale: float, other: Callable[[Tensor], Tensor]
) -> Callable[[Tensor], Tensor]:
    """The forward of a plain linear layer with a low-rank delta, with all that can be known known before.

    `parameters` holds A and B and is looked at each time, as they may be moved or replaced. `other` is the forward for
    whatever is not plain inference in one dtype.
    """
    weight, bias = base.plain_of, base.bias_of

    def call(x: Tensor) -> Tensor:
        A, B, W = parameters["A"], parameters["B"], weight()
        if torch.is_grad_enabled() or W is None or x.dtype is not A.dtype:  # type: ignore[union-attr]
            return other(x)
        y = linear(x, W, bias())
        if y.dtype is not x.dtype or not y.is_contiguous():
            return other(x)
        _add(y, linear(x, A), B.t(), scale)  # type: ignore[union-attr, arg-type]
        return y

    return call


def beside(x: Tensor, W: Tensor, b: Tensor | None, A: Tensor, Bt: Tensor, c: Tensor | None, alpha: float) -> Tensor:
    """x Wᵀ + b + alpha ((x Aᵀ) ∘ c) Bᵀ for x (..., in), A (R, in), Bt (R, out), c (R) or (..., R) or None for ones."""
    y = linear(x, W, b)
    h = linear(x, A)
    if c is not None:
        h.mul_(c)
    _add(y, h, Bt, alpha)
    return y


def _add(y: Tensor, h: Tensor, Bt: Tensor, alpha: float) -> None:
    """y += alpha h Bt for y (..., out), h (..., r), Bt (r, out), in place.

    For one token that is a product of a matrix and a vector, which starts sooner than one of two matrices.
    """
    r, out = Bt.shape
    if y.numel() == out:
        y.view(-1).addmv_(Bt.t(), h.view(-1), alpha=alpha)
    else:
        y.view(-1, out).addmm_(h.view(y.numel() // out, r), Bt, alpha=alpha)  # a rank may be 0


def scaled(
    base: View,
    parameters: Mapping[str, Tensor | None],
    scale: float,
    gain: Callable[[], Tensor],
    other: Callable[[Tensor], Tensor],
) -> Callable[[Tensor], Tensor]:
    """As `bound`, with the output of layer and delta, but not the bias, multiplied by `gain()` (out).

    `gain` is asked in each call, and keeps what it can.
    """
    weight, bias = base.plain_of, base.bias_of

    def call(x: Tensor) -> Tensor:
        A, B, W = parameters["A"], parameters["B"], weight()
        if torch.is_grad_enabled() or W is None or x.dtype is not A.dtype or torch.compiler.is_compiling():  # type: ignore[union-attr]
            return other(x)
        y = linear(x, W)
        if y.dtype is not x.dtype or not y.is_contiguous():
            return other(x)
        _add(y, linear(x, A), B.t(), scale)  # type: ignore[union-attr, arg-type]
        y.view(-1).mul_(gain()) if y.numel() == y.shape[-1] else y.mul_(gain())
        b = bias()
        return y if b is None else y.add_(b)

    return call


def _with_gradients(op: LowRank, base: View, x: Tensor, given: Tensor | None) -> Tensor:
    learning = op.A.requires_grad or op.B.requires_grad
    exact = x.dtype is op.A.dtype and not autocasts(x.device.type)
    if learning and exact and given is None and _frozen(base):
        return _node(LinearLowRank, x, base.plain, base.bias, op.A, op.B, op.scale)
    y: Tensor = base.call(x)
    return y + op.side(base, x if given is None else given).to(y.dtype)


def _frozen(base: View) -> bool:
    """Whether `base` is a plain linear layer that does not learn, as the fused node takes for granted."""
    W = base.plain
    if W is None or W.requires_grad:
        return False
    bias = base.bias
    return bias is None or not bias.requires_grad


#: Of so many tokens on a product with W + D costs less than two products: of fewer, making the sum costs more.
MANY = 8


def summed(op: Operator, base: View, x: Tensor) -> Tensor | None:
    """x (W + D)ᵀ + b for x (..., in), of an operator that a live layer makes dense; None where that costs more, or
    W + D would lose what D is.
    """
    W, dtype = base.plain, x.dtype
    if W is None or x.numel() < MANY * x.shape[-1] or not dtype is widest(dtype) is W.dtype is op.live_dtype:
        return None
    if autocasts(x.device.type):
        return None
    if not torch.is_grad_enabled():
        return linear(x, W + op.dense(), base.bias)
    if not _frozen(base):
        return None
    return _node(LinearDense, x, W, base.bias, op.dense())


def between(base: View, x: Tensor, A: Tensor, B: Tensor, d: Tensor, b: Tensor) -> Tensor | None:
    """base(x) + b ∘ (B (d ∘ A x)) for x (..., in), frozen A (r, in) and B (out, r) between vectors d (r) and b (out).

    The matrices are not multiplied by the vectors, nor are gradients made of them. None where that can't be.
    """
    W = base.plain
    if W is None or not x.dtype is W.dtype is A.dtype is d.dtype or autocasts(x.device.type):
        return None
    if not torch.is_grad_enabled():
        return linear(x, W, base.bias).addcmul_(linear(linear(x, A) * d, B), b)
    if not _frozen(base):
        return None
    return _node(LinearBetween, x, W, base.bias, A, B, d, b)


def _node(node: type[torch.autograd.Function], x: Tensor, *others: object) -> Tensor:
    """What a node gives for all rows of x. A view that was made inside of it could not be changed in place, as some
    models do.
    """
    made: Tensor = node.apply(x.reshape(-1, x.shape[-1]), *others)  # type: ignore[no-untyped-call]
    return made.view(*x.shape[:-1], -1)


class Kept(Protocol):
    """What a node keeps from its forward for its backward."""

    s: float
    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: Tensor | None) -> None: ...


class LinearLowRank(torch.autograd.Function):
    """y = x Wᵀ + b + s (x Aᵀ) Bᵀ with W and b frozen. x (n, in), W (out, in), A (r, in), B (out, r)."""

    @staticmethod
    def forward(ctx: Kept, x: Tensor, W: Tensor, b: Tensor | None, A: Tensor, B: Tensor, s: float) -> Tensor:
        h = x @ A.t()
        y = linear(x, W, b).addmm_(h, B.t(), alpha=s)
        learns_A, learns_B = ctx.needs_input_grad[3:5]
        ctx.save_for_backward(x if learns_A else None, W, A, B, h if learns_B else None)
        ctx.s = s
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Kept, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, W, A, B, h = ctx.saved_tensors
        g = grads[0]
        dh = (g @ B).mul_(ctx.s)
        dx = (g @ W).addmm_(dh, A) if ctx.needs_input_grad[0] else None
        dA = dh.t() @ x if ctx.needs_input_grad[3] else None
        dB = (g.t() @ h).mul_(ctx.s) if ctx.needs_input_grad[4] else None
        return dx, None, None, dA, dB, None


class LinearDense(torch.autograd.Function):
    """y = x (W + D)ᵀ + b with W and b frozen. x (n, in), W and D (out, in). The sum is made again, not kept."""

    @staticmethod
    def forward(ctx: Kept, x: Tensor, W: Tensor, b: Tensor | None, D: Tensor) -> Tensor:
        ctx.save_for_backward(x, W, D)
        return linear(x, W + D, b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Kept, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, W, D), g = ctx.saved_tensors, grads[0]
        dx = g @ (W + D) if ctx.needs_input_grad[0] else None
        learns = ctx.needs_input_grad[3]
        return dx, None, None, g.t() @ x if learns else None


class LinearBetween(torch.autograd.Function):
    """y = x Wᵀ + c + b ∘ ((d ∘ (x Aᵀ)) Bᵀ), where d (r) and b (out) alone learn. x (n, in), W (out, in)."""

    @staticmethod
    def forward(
        ctx: Kept, x: Tensor, W: Tensor, c: Tensor | None, A: Tensor, B: Tensor, d: Tensor, b: Tensor
    ) -> Tensor:
        h = linear(x, A)
        u = linear(h * d, B)
        ctx.save_for_backward(W, A, B, d, b, h, u)
        return linear(x, W, c).addcmul_(u, b)

    @staticmethod
    @once_differentiable
    def backward(ctx: Kept, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (W, A, B, d, b, h, u), g = ctx.saved_tensors, grads[0]
        t = (g * b) @ B
        dd, db = ((left * right).sum(0) for left, right in ((t, h), (g, u)))
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, None, dd, db
        dx = (g @ W).addmm_(t.mul_(d), A)
        return dx, None, None, None, None, dd, db
