"""The modules of a pipeline without weights, by the names and shapes of its tensors: no library of image models is
asked, so a model that none knows has them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adaptr.checkpoint.open import Checkpoint
from adaptr.roles import is_embedding

if TYPE_CHECKING:
    from torch import nn


def drawn(checkpoint: Checkpoint) -> nn.Module:
    """A tree of linear layers, embeddings and convolutions on the meta device; what has no matrix is a plain module."""
    from torch import nn

    root = nn.Module()
    for name, stored in checkpoint.tensors.items():
        path, _, leaf = name.rpartition(".")
        if leaf == "weight":
            _put(root, path.split("."), _layer(name, stored.entry.shape))
    return root


def _put(root: nn.Module, parts: Sequence[str], layer: nn.Module) -> None:
    from torch import nn

    at = root
    for number, part in enumerate(parts, 1):
        if part not in at._modules and (not part or hasattr(at, part)):
            return  # no module of torch's can be called so, so no adapter names it
        if number == len(parts):
            at._modules[part] = layer
        at = at._modules.setdefault(part, nn.Module())  # type: ignore[assignment]


def _layer(name: str, shape: Sequence[int]) -> nn.Module:
    from torch import nn

    if len(shape) == 2:
        rows, columns = shape
        if is_embedding(name):
            return nn.Embedding(rows, columns, device="meta")
        return nn.Linear(columns, rows, device="meta")
    convolutions = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}
    if len(shape) not in convolutions:
        return nn.Module()
    return convolutions[len(shape)](shape[1], shape[0], tuple(shape[2:]), device="meta")  # type: ignore[arg-type]
