"""MXFP4 as gpt-oss is published: stacks of experts in floats of four bits. Rouhani and others 2023, arXiv:2310.10537.

Stored (experts, out, in / 32, 16); the model has (experts, in, out), so a row is an expert. Attention and routers are
floats.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adaptr.errors import CheckpointError
from adaptr.packings import Files, Packing, Parts, Sinks, Weight
from adaptr.packings.codec import picked
from adaptr_packings._pieces.floats4 import Fours
from adaptr_packings._pieces.floats8 import powers
from adaptr_packings._pieces.modules import skipped
from adaptr_packings._pieces.nibbles import decoded, packed, unpacked

if TYPE_CHECKING:
    from torch import Tensor

BLOCKS, SCALES = "_blocks", "_scales"
#: Values that share a power of two.
GROUP = 32


@dataclass(frozen=True)
class Experts(Fours):
    """`shape`: (experts, in, out)."""

    def wanted(self) -> Mapping[str, tuple[frozenset[str], tuple[int, ...]]]:
        experts, columns, rows = self.shape
        groups = (experts, rows, columns // GROUP)
        return {"weight": (frozenset({"U8"}), (*groups, GROUP // 2)), "scale": (frozenset({"U8"}), groups)}

    def codes(self, parts: Parts, start: int, stop: int) -> Tensor:
        return _turned(unpacked(parts["weight"].rows(start, stop), high_first=False))

    def scale(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, None]:
        found = powers(parts["scale"].rows(start, stop))
        return found.repeat_interleave(GROUP, 2).transpose(1, 2), None

    def values(self, codes: Tensor, parts: Parts, start: int) -> Tensor:
        scale, _ = self.scale(parts, start, start + codes.shape[0])
        return self._typed(picked(self.levels(), codes).mul_(scale))

    def decode(self, parts: Parts, start: int, stop: int) -> Tensor:
        scale = powers(parts["scale"].rows(start, stop)).unsqueeze(-1)
        found = decoded(parts["weight"].rows(start, stop), self._pairs)
        return _turned(self._typed(found.view(*scale.shape[:3], GROUP).mul_(scale)))

    def _typed(self, values: Tensor) -> Tensor:
        from adaptr.format.io import torch_dtype

        return values.to(torch_dtype(self.dtype))

    def put(self, codes: Tensor, start: int, into: Sinks) -> None:
        turned = codes.transpose(1, 2)
        raw = packed(turned, high_first=False)
        into["weight"].rows(start, raw.view(*turned.shape[:2], self.shape[1] // GROUP, GROUP // 2))


def _turned(values: Tensor) -> Tensor:
    """(experts, out, in / 32, 32) as stored to (experts, in, out)."""
    return values.flatten(2).transpose(1, 2).contiguous()


class Mxfp4(Packing):
    name = "mxfp4"

    def weights(self, files: Files) -> Iterator[Weight]:
        for name in files.entries:
            if name.endswith(BLOCKS):
                yield _weight(files, name.removesuffix(BLOCKS))
            elif name.endswith(SCALES) and name.removesuffix(SCALES) + BLOCKS not in files.entries:
                raise CheckpointError(f"`{name}` is of blocks that are not there", hint="get the missing tensors")

    def floated(
        self, said: Mapping[str, Any], floats: Collection[str], packed: Collection[str] = ()
    ) -> Mapping[str, Any]:
        return {**said, "modules_to_not_convert": skipped(said.get("modules_to_not_convert"), floats)}


def _weight(files: Files, name: str) -> Weight:
    shape, dtype = files.entries[name + BLOCKS].shape, files.dtype or "BF16"
    if len(shape) != 4 or 0 in shape:
        raise CheckpointError(f"`{name}{BLOCKS}`", got=f"of shape {list(shape)}", want="(experts, out, groups, 16)")
    codec = Experts("mxfp4", (shape[0], shape[2] * GROUP, shape[1]), dtype)
    return Weight(name, {"weight": name + BLOCKS, "scale": name + SCALES}, codec, dtype)
