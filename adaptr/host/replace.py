"""Whole parameters that an adapter replaces (heads, norms, tables)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from adaptr import targets as places
from adaptr.errors import AlreadyAttached, ShapeError

MARK = "_adaptr_replacement"


def replaceable(model: nn.Module, path: str, tensor: Tensor) -> None:
    """Raises `TargetNotFound`, `ShapeError` or `AlreadyAttached` unless `tensor` can stand for the parameter at
    `path`.
    """
    found = places.parameter(model, path)
    if hasattr(found, MARK):
        raise AlreadyAttached(f"another adapter on this model has replaced `{path}` already; detach it first")
    if found.shape != tensor.shape:
        raise ShapeError(f"`{path}` in the base has shape {tuple(found.shape)}, the adapter's {tuple(tensor.shape)}")


class Replacement:
    """Another value in a parameter's place: W + w (V - W), in the dtype and on the device of W.

    The base's own parameter object is kept aside and put back by `undo()`, so that ties and values return as they were,
    in the dtype and on the device that the model has by then.
    """

    def __init__(self, model: nn.Module, path: str, tensor: Tensor, weight: float, trainable: bool) -> None:
        owner, _, self.name = path.rpartition(".")
        self.module = model.get_submodule(owner)
        before = self.module._parameters[self.name]
        assert before is not None
        self.before, self.tensor = before, tensor
        self.value = nn.Parameter(self.blended(weight), requires_grad=trainable)
        setattr(self.value, MARK, path)
        self.module._parameters[self.name] = self.value

    def blended(self, weight: float) -> Tensor:
        before = self.before.detach()
        value = self.tensor.detach().to(before, copy=True)
        return value if weight == 1.0 else torch.lerp(before, value, weight)

    def blend(self, weight: float) -> None:
        """Change the strength."""
        with torch.no_grad():
            self.value.copy_(self.blended(weight))

    def learned(self) -> Tensor:
        """The value as it is now, in the adapter's dtype."""
        return self.value.detach().to(self.tensor.dtype, copy=True)

    def undo(self) -> None:
        self._follow()
        self.module._parameters[self.name] = self.before

    def _follow(self) -> None:
        """Move what was kept aside to where the model has gone since."""
        now = self.module._parameters[self.name]
        if now is None or (now.dtype, now.device) == (self.before.dtype, self.before.device):
            return
        grad, self.before.grad = self.before.grad, None  # whose dtype must be that of the value
        self.before.data = self.before.data.to(now.device, now.dtype)
        self.before.grad = None if grad is None else grad.to(now.device, now.dtype)
