"""Tensors of which each process has a part (torch's `fully_shard`), whole, and the way back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All of them whole, in every process: a collective operation where they are in parts."""
    return {key: t.full_tensor() if hasattr(t, "full_tensor") else t for key, t in tensors.items()}


def spread(tensors: Mapping[str, Tensor], live: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors in parts, as those of the same name in `live` are."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    def put(key: str, tensor: Tensor) -> Tensor:
        like = live.get(key)
        if not isinstance(like, DTensor):
            return tensor
        return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements)

    return {key: put(key, tensor) for key, tensor in tensors.items()}
