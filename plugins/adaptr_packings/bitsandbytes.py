"""bitsandbytes: NF4 and FP4 with single or double quantisation, and LLM.int8().  Dettmers and others 2023,
arXiv:2305.14314 and 2022, arXiv:2208.07339.

Four bits: two codes a byte, the first in the high nibble, over the flattened weight; one absmax a block, which may
cross rows. Double: the absmax are codes of eight bits themselves, less their mean, in blocks of 256. The truth of a
weight is in its `quant_state`, whatever the configuration says. Eight bits: a row's absmax `SCB`. GPT-2's layers have
their weight as (in, out), and lie as (out, in).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeGuard

from adaptr.adapter.packed import NF4
from adaptr.errors import CheckpointError, Unsupported, shown
from adaptr.packings import Files, Grid, Packing, Parts, Sinks, Weight
from adaptr.packings.codec import picked
from adaptr_packings._pieces.modules import skipped
from adaptr_packings._pieces.nibbles import FP4, decoded, packed, pairs, unpacked

if TYPE_CHECKING:
    from torch import Tensor

STATE = "quant_state.bitsandbytes__"
#: The float types that a state may name.
FLOATS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
#: fp32(1/127), by which the library multiplies.
ONE_127TH = 7.874015718698502e-3


@dataclass(frozen=True)
class FourBit(Grid):
    """`kind`: nf4 or fp4; `block`: weights that share an absmax; `nested`: absmax that share one of their own, 0 for
    none; `offset`: what is added to these; `stored`: bytes of the codes' type.
    """

    kind: str
    block: int
    stored: tuple[str, int]
    nested: int = 0
    offset: float = 0.0

    @property
    def step(self) -> int:
        return 1 + self.shape[1] % 2

    def wanted(self) -> Mapping[str, tuple[frozenset[str], tuple[int, ...]]]:
        count = math.prod(self.shape)
        blocks = -(-count // self.block)
        dtype, size = self.stored
        found = {"weight": (frozenset({dtype}), (-(-count // 2) // size, 1)), "quant_map": (frozenset({"F32"}), (16,))}
        if not self.nested:
            return {**found, "absmax": (frozenset({"F32"}), (blocks,))}
        return {
            **found,
            "absmax": (frozenset({"U8"}), (blocks,)),
            "nested_absmax": (frozenset({"F32"}), (-(-blocks // self.nested),)),
            "nested_quant_map": (frozenset({"F32"}), (256,)),
        }

    def levels(self) -> Tensor:
        import torch

        return torch.tensor(NF4 if self.kind == "nf4" else FP4)

    def _bounds(self, start: int, stop: int) -> tuple[int, int, int, int]:
        """The elements of rows, and those of the whole blocks around them."""
        first, last = start * self.shape[1], stop * self.shape[1]
        low = first // self.block * self.block
        return first, last, low, min(-(-last // self.block) * self.block, math.prod(self.shape))

    def _absmax(self, parts: Parts, low: int, high: int) -> Tensor:
        """fp32, of the blocks of elements [low, high)."""
        import torch

        first, last = low // self.block, -(-high // self.block)
        found = parts["absmax"].rows(first, last)
        if not self.nested:
            return found
        at = torch.arange(first, last) // self.nested
        values = parts["nested_quant_map"].all()[found.long()] * parts["nested_absmax"].all()[at]
        return values + torch.tensor(self.offset, dtype=torch.float32)

    def codes(self, parts: Parts, start: int, stop: int) -> Tensor:
        first, last, _, _ = self._bounds(start, stop)
        raw = parts["weight"].bytes(first // 2, -(-last // 2))
        return unpacked(raw, high_first=True)[first % 2 :][: last - first].view(stop - start, self.shape[1])

    def scale(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, None]:
        first, last, low, high = self._bounds(start, stop)
        each = self._absmax(parts, low, high).repeat_interleave(self.block)
        return each[first - low : last - low].view(stop - start, self.shape[1]), None

    def values(self, codes: Tensor, parts: Parts, start: int) -> Tensor:
        scale, _ = self.scale(parts, start, start + codes.shape[0])
        return self._typed(picked(self.levels(), codes).mul_(scale))

    def decode(self, parts: Parts, start: int, stop: int) -> Tensor:
        import torch

        first, last, low, high = self._bounds(start, stop)
        flat = decoded(parts["weight"].bytes(low // 2, -(-high // 2)), self._pairs)[: high - low]
        absmax = self._absmax(parts, low, high)
        short = -flat.numel() % self.block
        flat = torch.nn.functional.pad(flat, (0, short)) if short else flat
        found = flat.view(-1, self.block).mul_(absmax.unsqueeze(1)).view(-1)[first - low : last - low]
        return self._typed(found.view(stop - start, self.shape[1]))

    def _typed(self, values: Tensor) -> Tensor:
        from adaptr.format.io import torch_dtype

        return values.to(torch_dtype(self.dtype))

    @cached_property
    def _pairs(self) -> Tensor:
        return pairs(self.levels(), high_first=True)

    def put(self, codes: Tensor, start: int, into: Sinks) -> None:
        into["weight"].bytes(start * self.shape[1] // 2, packed(codes, high_first=True))


@dataclass(frozen=True)
class EightBit(Grid):
    """Rows of bytes, each times its absmax / 127, in fp32."""

    def wanted(self) -> Mapping[str, tuple[frozenset[str], tuple[int, ...]]]:
        return {"weight": (frozenset({"I8"}), self.shape), "SCB": (frozenset({"F32"}), self.shape[:1])}

    def levels(self) -> Tensor:
        import torch

        return torch.arange(256, dtype=torch.uint8).view(torch.int8).float()

    def codes(self, parts: Parts, start: int, stop: int) -> Tensor:
        import torch

        return parts["weight"].rows(start, stop).view(torch.uint8)

    def scale(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, None]:
        return parts["SCB"].rows(start, stop).unsqueeze(1) * ONE_127TH, None

    def values(self, codes: Tensor, parts: Parts, start: int) -> Tensor:
        import torch

        absmax = parts["SCB"].rows(start, start + codes.shape[0]).unsqueeze(1)
        return codes.to(torch.uint8).view(torch.int8) * absmax * ONE_127TH

    def nearest(self, values: Tensor, parts: Parts, start: int) -> Tensor:
        import torch

        scale, _ = self.scale(parts, start, start + values.shape[0])
        found = torch.where(scale == 0, 0.0, values / scale).round_().clamp_(-127, 127)
        return found.to(torch.int8).view(torch.uint8)

    def put(self, codes: Tensor, start: int, into: Sinks) -> None:
        import torch

        into["weight"].rows(start, codes.to(torch.uint8).view(torch.int8))


class Bitsandbytes(Packing):
    name = "bitsandbytes"
    turns = True

    def weights(self, files: Files) -> Iterator[Weight]:
        for name in files.entries:
            if f".{STATE}" in name:
                yield _four(files, name)
            elif name.endswith(".SCB"):
                yield _eight(files, name.removesuffix(".SCB"))

    def floated(
        self, said: Mapping[str, Any], floats: Collection[str], packed: Collection[str] = ()
    ) -> Mapping[str, Any]:
        return {**said, "llm_int8_skip_modules": skipped(said.get("llm_int8_skip_modules"), floats)}


def _four(files: Files, state: str) -> Weight:
    name, _, kind = state.partition(f".{STATE}")
    said = files.document(state)
    shape, block, dtype = said.get("shape"), said.get("blocksize"), FLOATS.get(str(said.get("dtype")), "")
    if not _is_shape(shape) or not dtype or type(block) is not int or not 0 < block <= 1 << 16 or block % 2:
        raise CheckpointError(f"`{state}` describes no weight: {shown(str(said), 200)}")
    if kind not in {"nf4", "fp4"} or said.get("quant_type", kind) != kind:
        raise Unsupported(f"`{name}` is packed by bitsandbytes as `{shown(kind)}`, which is not known")
    nested, offset = said.get("nested_blocksize", 0), said.get("nested_offset", 0.0)
    if type(nested) is not int or nested < 0 or not isinstance(offset, int | float):
        raise CheckpointError(f"`{state}` describes no double quantisation: {shown(str(said), 200)}")
    main = files.entries.get(name)
    if main is None:
        raise CheckpointError(f"`{state}` describes `{name}`, which is not there")
    stored = main.dtype, max(main.nbytes // max(main.numel, 1), 1)
    codec = FourBit(f"bnb-{kind}", tuple(shape), dtype, kind, block, stored, nested, float(offset))
    parts = {"weight": name, "state": state}
    parts |= {role: f"{name}.{role}" for role in codec.wanted() if role != "weight"}
    return Weight(name, parts, codec, dtype)


def _is_shape(it: object) -> TypeGuard[list[int]]:
    return isinstance(it, list) and len(it) == 2 and all(type(n) is int and n > 0 for n in it)


def _eight(files: Files, path: str) -> Weight:
    name, form = f"{path}.weight", f"{path}.weight_format"
    entry = files.entries.get(name)
    if entry is None or len(entry.shape) != 2:
        raise CheckpointError(f"`{path}.SCB` is of `{name}`, which is not there as a matrix")
    parts = {"weight": name, "SCB": f"{path}.SCB"}
    if form in files.entries:
        if files.read(form) != b"\0":
            raise Unsupported(
                f"`{name}` lies in a layout of bitsandbytes for a GPU of some kind", hint="save it again in rows"
            )
        parts["weight_format"] = form
    return Weight(name, parts, EightBit("bnb-int8", entry.shape, "F32"), files.dtype or "F32")
