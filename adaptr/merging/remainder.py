"""What an algebraic inverse leaves to be known of a base: bits of elements that moved up, and a patch for the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.kernels import fastest
from adaptr.merging import binade, patch
from adaptr.merging.binade import Found, Lost, kind_of
from adaptr.merging.damage import damaged
from adaptr.merging.patch import Differences, Patch, integers, like

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from adaptr.bulk.blocks import Inverse
    from adaptr.merging.receipt import Receipt


class Remainder:
    """The remainder of one tensor, collected block by block in the order of the elements."""

    def __init__(self, dtype: object, written: object) -> None:
        """`written`: the dtype that the tensor has after the merge; a wider one has lost no bits."""
        kind = kind_of(dtype) if dtype == written else None
        self.patch, self.bits = Differences(), Lost(kind) if kind else None

    def sum(self, true: Tensor, added: Tensor, at: int) -> Tensor | None:
        """true + added, rounded, with its remainder: both in one pass. None, and nothing done, if there is no such way.

        Else as `add`, of a weight whose inverse is that it is taken off again.
        """
        if self.bits is None:
            return None
        found = self.bits.kernels.add(integers(true), added.reshape(-1).numpy(), self.bits.kind)
        if found is None:
            return None
        self.patch.note(*self.bits.put(found.coded), at)
        return like(true, found.merged)

    def add(self, true: Tensor, merged: Tensor, inverse: Inverse | None, s: slice, at: int) -> None:
        """Rows `s` of the storage as they were and are, from flat index `at` on. None: there is no inverse."""
        computed = inverse.below(merged, s) if inverse else merged
        if inverse is None or self.bits is None:
            self.patch.add(true, computed.to(true.dtype), at)
            return
        found = self.bits.add(integers(true), integers(merged), integers(computed), inverse.exact)
        self.patch.note(*found, at)

    def encode(self) -> dict[str, bytes]:
        """The blobs, by what they are called."""
        return {"patch": self.patch.encode(), "bits": self.bits.encode() if self.bits else b""}


def plus(true: Tensor, added: Tensor) -> Tensor | None:
    """true + added, rounded, of which nothing need be known. None if there is no such way in one pass."""
    kind = kind_of(true.dtype)
    found = fastest().plus(integers(true), added.reshape(-1).numpy(), kind) if kind else None
    return None if found is None else like(true, found)


class Completion:
    """The remainder of one tensor, given back block by block in the order of the elements."""

    def __init__(self, paper: Receipt, name: str, dtype: torch.dtype, written: torch.dtype, count: int) -> None:
        """Of `count` elements of `dtype`, which a merge has `written` in this or a wider one.

        Raises `DigestMismatch` if the remainder is damaged, here or when it is applied.
        """
        self.dtype, kind = dtype, kind_of(dtype) if dtype == written else None
        self.patch = Patch(paper.blob(f"{name}:patch", patch.longest(count, dtype.itemsize)))
        bits = paper.blob(f"{name}:bits", binade.longest(count))
        if bits and (kind is None or not paper.portable):
            raise damaged(f"the receipt has bits for `{name}`, where there can be none")
        self.bits = Found(bits, kind) if kind and paper.portable else None

    def below(self, merged: Tensor, inverse: Inverse | None, s: slice, at: int) -> Tensor:
        """Rows `s` of the storage as they were. `merged` may be changed. None: there is no inverse."""
        computed = inverse.below(merged, s) if inverse else merged
        if inverse and self.bits:
            self.bits.apply(integers(merged), integers(computed), inverse.exact)
        computed = computed.to(self.dtype)
        self.patch.apply(computed, at)
        return computed
