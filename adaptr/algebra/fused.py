"""The training path of a low-rank delta over a frozen linear layer, as one autograd node.

The plain chain linear, linear, scale, add allocates four outputs and their gradients. Here the delta is accumulated
into the layer's own output, and its input gradient into the layer's: two extra thin products each way, and r numbers a
token kept for the backward.
"""

# torch is imported at module level here: this file is only imported from inside a forward.
from typing import Any

import torch
from torch import Tensor


class LinearLowRank(torch.autograd.Function):
    """y = x Wᵀ + b + s (x Aᵀ) Bᵀ with W and b frozen. x (..., in), W (out, in), A (r, in), B (out, r)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, W: Tensor, b: Tensor | None, A: Tensor, B: Tensor, s: float) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        h = flat @ A.t()
        y = torch.nn.functional.linear(flat, W, b).addmm_(h, B.t(), alpha=s)
        ctx.save_for_backward(flat, W, A, B, h)
        ctx.s, ctx.shape = s, x.shape
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, W, A, B, h = ctx.saved_tensors
        g = grads[0].reshape(-1, grads[0].shape[-1])
        dh = (g @ B).mul_(ctx.s)
        dx = (g @ W).addmm_(dh, A).view(ctx.shape) if ctx.needs_input_grad[0] else None
        dA = dh.t() @ x if ctx.needs_input_grad[3] else None
        dB = (g.t() @ h).mul_(ctx.s) if ctx.needs_input_grad[4] else None
        return dx, None, None, dA, dB, None
