"""A mask as bits of whole numbers, the first the lowest of the first: an eighth of a byte for each entry of a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.errors import InputError, phrases

if TYPE_CHECKING:
    from torch import Tensor

WORD = 64


def words(n: int) -> int:
    """How many whole numbers hold n bits."""
    return -(-n // WORD)


def packed(mask: Tensor) -> Tensor:
    """The bits of a mask (n,) as whole numbers, the first the lowest of the first."""
    import torch

    words = torch.nn.functional.pad(mask.long(), (0, -len(mask) % WORD)).view(-1, WORD)
    return (words << torch.arange(WORD, device=mask.device)).sum(1)


def unpacked(words: Tensor, n: int) -> Tensor:
    """The first n bits (n,) of whole numbers."""
    import torch

    return ((words[:, None] >> torch.arange(WORD, device=words.device)) & 1).flatten()[:n].bool()


def require_set(mask: Tensor, count: int, where: str) -> None:
    """Raises `InputError` unless so many are set. Not while compiling, nor where looking would hold up a device."""
    import torch

    if mask.device.type == "cpu" and not torch.compiler.is_compiling() and int(mask.sum()) != count:
        raise InputError(
            f"{where}: `bits`",
            verb="have",
            got=f"{int(mask.sum())} that are set",
            want=f"{count}, as many as weights are left",
            hint=phrases.AGAIN,
        )
