"""What a library's way of packing has to say of a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Packing:
    """One way. A layer is known by what it has: no library is imported to recognise it."""

    def holds(self, module: nn.Module) -> bool:
        """Whether a layer is packed so."""
        raise NotImplementedError

    def weight(self, module: nn.Module) -> Tensor:
        """The weight (out, in) that the layer multiplies with, as floats."""
        raise NotImplementedError

    def grid(self, module: nn.Module) -> str:
        """What the levels of the weight are called, where methods know them."""
        return ""

    def tensors(self, module: nn.Module) -> tuple[Any, ...]:
        """All that the weight is computed from: while these stay, so does what was derived from it."""
        own = (*module._parameters.items(), *module._buffers.items())
        return tuple(tensor for name, tensor in own if name != "bias" and tensor is not None)

    def require_sound(self, path: str, module: nn.Module) -> None:
        """Raises `Unsupported` where the weight is not what was stored."""

    def require_learning(self, path: str, module: nn.Module) -> None:
        """Raises `Unsupported` where no gradient flows through the layer."""

    def hold(self, module: nn.Module) -> Callable[[], None]:
        """Keep the layer so that gradients flow through it; returns the way back."""
        return _nothing


def _nothing() -> None:
    """Nothing was changed."""
