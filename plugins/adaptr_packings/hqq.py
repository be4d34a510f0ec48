"""HQQ: whole numbers of 1 to 8 bits, with a scale and a zero point between levels for each group.  Badri and Shaji
2023, "Half-Quadratic Quantization of Large Machine Learning Models".

The weight is flattened and cut into groups, which are the rows of a matrix (axis 1) or its columns (axis 0). Several of
its rows lie in one: the first half of them in the high nibbles and the second in the low ones, with 4 bits. What a
weight's tensors say of it counts, whatever the configuration says.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr.errors import CheckpointError, Unsupported, phrases, shown
from adaptr.format.header import DTYPES
from adaptr.packings import Files, Packing, Parts, Sinks, Weight
from adaptr_packings._pieces.integers import Integers
from adaptr_packings._pieces.told import Told
from adaptr_packings._pieces.zeros import Zeros

if TYPE_CHECKING:
    from torch import Tensor

#: How many bits a code takes, how many rows lie in one, and in which type, by what the library calls it.
LAYOUTS = {"8bit_u8": (8, 1, "U8"), "4bit_u8": (4, 2, "U8"), "2bit_u8": (2, 4, "U8"), "1bit_u8": (1, 8, "U8"),
           "3bit_32": (3, 10, "I32")}  # fmt: skip
UNPACKED = "use the unquantised base"
FLOATS = {"torch.float16": "F16", "torch.bfloat16": "BF16", "torch.float32": "F32"}


@dataclass(frozen=True)
class Matrix(Integers):
    """`highest`: the highest code; `group`: elements of one; `axis`: along which they lie; `layout`: see `LAYOUTS`;
    `stored`: the type that the codes are written as, whose bytes they are; `scaled`: that of scales and zero points.
    """

    highest: int
    group: int
    axis: int
    layout: str
    stored: str
    scaled: str

    main: ClassVar[str] = "W_q"

    @property
    def most(self) -> int:
        return self.highest

    @property
    def _matrix(self) -> tuple[int, int]:
        """Rows and columns of the matrix of groups."""
        groups = math.prod(self.shape) // self.group
        return (groups, self.group) if self.axis else (self.group, groups)

    @property
    def _each(self) -> int:
        """Rows of the packed matrix."""
        return -(-self._matrix[0] // LAYOUTS[self.layout][1])

    def wanted(self) -> Mapping[str, tuple[frozenset[str], tuple[int, ...]]]:
        rows, columns = self._matrix
        width = columns * DTYPES[LAYOUTS[self.layout][2]] // DTYPES[self.stored]
        each = (rows, 1) if self.axis else (1, columns)
        scales = (frozenset({self.scaled}), each)
        return {"W_q": (frozenset({self.stored}), (self._each, width)), "scale": scales, "zero": scales}

    def _around(self, start: int, stop: int) -> tuple[slice, slice]:
        """The rows of the matrix that rows of the weight are in, and where they are in these."""
        columns = self._matrix[1]
        first, last = start * self.shape[1], stop * self.shape[1]
        low = first // columns
        return slice(low, -(-last // columns)), slice(first - low * columns, last - low * columns)

    def _pieces(self, rows: slice) -> Iterator[tuple[slice, int, slice]]:
        """(rows of the packed matrix, by how many bits their codes are shifted, where they are in `rows`)."""
        bits, many, _ = LAYOUTS[self.layout]
        for number in range(many):
            low, high = max(rows.start, number * self._each), min(rows.stop, (number + 1) * self._each)
            if low < high:
                yield (
                    slice(low - number * self._each, high - number * self._each),
                    bits * (many - 1 - number),
                    slice(low - rows.start, high - rows.start),
                )

    def _unpacked(self, whole: Tensor, rows: slice) -> Tensor:
        """Rows of the matrix, uint8."""
        import torch

        mask = (1 << self.bits) - 1
        found = [((whole[at] >> shift) & mask).to(torch.uint8) for at, shift, _ in self._pieces(rows)]
        return torch.cat(found)

    def _bytes(self, stored: Tensor) -> Tensor:
        import torch

        return stored.view(torch.int32 if self.layout == "3bit_32" else torch.uint8)

    def codes(self, parts: Parts, start: int, stop: int) -> Tensor:
        rows, flat = self._around(start, stop)
        found = self._unpacked(self._bytes(parts["W_q"].all()), rows)
        return found.view(-1)[flat].view(stop - start, self.shape[1])

    def affine(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        from adaptr.format.io import torch_dtype

        rows, flat = self._around(start, stop)
        size, dtype = (rows.stop - rows.start, self._matrix[1]), torch_dtype(self.dtype)

        def spread(role: str) -> Tensor:
            found = parts[role].all()
            whole = (found[rows] if self.axis else found).expand(size).reshape(-1)[flat]
            return whole.view(stop - start, self.shape[1]).to(dtype)

        return spread("scale"), spread("zero")

    def shifted(self, group: int) -> Zeros | None:
        """Where groups lie in rows, and each in one of the change's; the library has none of less than 8 inputs."""
        fits = self.axis == 1 and not self.shape[1] % self.group and not group % self.group and self.group >= 8
        return Zeros(f"{self.scheme}-zeros", self.shape, self.dtype, self, self.group, self.scaled) if fits else None

    def put(self, codes: Tensor, start: int, into: Sinks) -> None:
        import torch

        rows, flat = self._around(start, start + codes.shape[0])
        whole = self._bytes(into["W_q"].tensor)
        matrix = self._unpacked(whole, rows)
        matrix.view(-1)[flat] = codes.reshape(-1).to(torch.uint8)
        mask = (1 << self.bits) - 1
        for at, shift, of in self._pieces(rows):
            rest = whole[at] & ~torch.tensor(mask << shift, dtype=whole.dtype)
            whole[at] = rest | (matrix[of].to(whole.dtype) << shift)


class Hqq(Packing):
    name = "hqq"

    def weights(self, files: Files) -> Iterator[Weight]:
        for path, there in files.modules.items():
            if "W_q" in there:
                yield _weight(files, path)

    def floated(self, said: Mapping[str, Any], floats: Collection[str], packed: Collection[str]) -> Mapping[str, Any]:
        """Layers are named by their kind alone, so all of a kind are packed or none is. Raises `Unsupported`."""
        skipped = {str(one) for one in said.get("skip_modules") or ()}
        kinds = {_kind(path) for path in floats}
        both = sorted(kinds & {_kind(path) for path in packed})
        if both:
            raise Unsupported(
                f"a configuration of HQQ can't say that some of the layers {phrases.listed(both)} are packed and some "
                "are not",
                hint="pack them again, or change the layers of that name in all blocks",
            )
        return {**said, "skip_modules": sorted(skipped | kinds)}


def _kind(path: str) -> str:
    """What configurations of HQQ call a layer."""
    return ".".join(part for part in path.split(".") if part not in {"model", "layers"} and not part.isdecimal())


def _weight(files: Files, path: str) -> Weight:
    name, told = f"{path}.weight", Told(files, path)
    layout, dtype = told.text("packing"), FLOATS.get(told.text("compute_dtype"), "")
    if layout not in LAYOUTS or not dtype:
        raise Unsupported(
            f"`{name}` is packed by HQQ as `{shown(layout)}` of `{shown(told.text('compute_dtype'))}`", hint=UNPACKED
        )
    if told.number("quant_scale") or told.number("quant_zero") or not told.number("channel_wise", 1):
        raise Unsupported(
            f"`{name}` is packed by HQQ with scales that are packed themselves, or one for all its groups"
        )
    shape, group, axis = told.numbers("shape"), told.number("group_size"), told.number("axis")
    bits = told.number("nbits")
    if len(shape) != 2 or min(shape) < 1 or group < 1 or math.prod(shape) % group or axis not in {0, 1}:
        raise CheckpointError(
            f"`{name}` is said to be {list(shape)} in groups of {group} along axis {axis}", hint=phrases.FETCH
        )
    if not 1 <= bits <= LAYOUTS[layout][0]:
        raise CheckpointError(f"`{name}`", verb="has", got=f"{bits} bits", want=f"codes of `{layout}`")
    there = files.modules[path]
    stored, scale = there["W_q"], there.get("scale")
    codec = Matrix(
        "hqq", (int(shape[0]), int(shape[1])), dtype, LAYOUTS[layout][0], round(2.0**bits) - 1, int(group), int(axis),
        layout, stored.dtype, scale.dtype if scale is not None else dtype,
    )  # fmt: skip
    parts = {role: f"{path}.{role}" for role in there if role != "bias"}
    return Weight(name, parts, codec, files.dtype or dtype)
