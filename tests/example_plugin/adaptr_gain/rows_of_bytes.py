"""Bytes: whole numbers of eight bits, times a scale of the row."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adaptr.packings import Files, Grid, Packing, Parts, Sinks, Weight

if TYPE_CHECKING:
    from torch import Tensor


class Rows(Grid):
    def wanted(self) -> Mapping[str, tuple[frozenset[str], tuple[int, ...]]]:
        return {"weight": (frozenset({"I8"}), self.shape), "scale": (frozenset({"F32"}), self.shape[:1])}

    def levels(self) -> Tensor:
        import torch

        return torch.arange(256, dtype=torch.uint8).view(torch.int8).float()

    def codes(self, parts: Parts, start: int, stop: int) -> Tensor:
        import torch

        return parts["weight"].rows(start, stop).view(torch.uint8)

    def scale(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, None]:
        return parts["scale"].rows(start, stop).unsqueeze(1), None

    def values(self, codes: Tensor, parts: Parts, start: int) -> Tensor:
        scale, _ = self.scale(parts, start, start + codes.shape[0])
        return self.levels()[codes.long()] * scale

    def put(self, codes: Tensor, start: int, into: Sinks) -> None:
        import torch

        into["weight"].rows(start, codes.to(torch.uint8).view(torch.int8))


class Bytes(Packing):
    name = "bytes"

    def weights(self, files: Files) -> Iterator[Weight]:
        for path, there in files.modules.items():
            if "weight_scale" in there and "weight" in there:
                parts = {"weight": f"{path}.weight", "scale": f"{path}.weight_scale"}
                yield Weight(parts["weight"], parts, Rows("bytes", there["weight"].shape, "F32"), files.dtype or "F32")

    def floated(self, said: Mapping[str, Any], floats: Collection[str], packed: Collection[str]) -> Mapping[str, Any]:
        return {**said, "not_packed": sorted({*said.get("not_packed", ()), *floats})}
