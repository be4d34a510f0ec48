"""AWQ: whole numbers of 4 bits, with a scale and a zero point for each group of inputs.  Lin and others 2023,
arXiv:2306.00978.

The layout `gemm`: the weight turned, (in, out), packed along the outputs as its zero points are, eight to a word of 32
bits: columns 0 to 7 are in the nibbles 0, 4, 1, 5, 2, 6, 3, 7.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr.errors import CheckpointError, Unsupported, phrases, shown
from adaptr.format.header import Entry
from adaptr.packings import Files, Packing, Parts, Sinks, Weight
from adaptr_packings._pieces import bits
from adaptr_packings._pieces.integers import Integers, spread
from adaptr_packings._pieces.modules import skipped

if TYPE_CHECKING:
    from torch import Tensor

BITS = 4
#: The nibble that each of eight columns is in, and the column that each nibble holds.
NIBBLES, COLUMNS = (0, 4, 1, 5, 2, 6, 3, 7), (0, 2, 4, 6, 1, 3, 5, 7)
EIGHT = len(NIBBLES)
SCALES = frozenset({"F16", "BF16", "F32"})


@dataclass(frozen=True)
class Columns(Integers):
    """`group`: inputs that share a scale."""

    group: int

    main: ClassVar[str] = "qweight"

    def wanted(self) -> Mapping[str, tuple[frozenset[str], tuple[int, ...]]]:
        rows, columns = self.shape
        groups = columns // self.group
        return {
            "qweight": (frozenset({"I32"}), (columns, rows // EIGHT)),
            "qzeros": (frozenset({"I32"}), (groups, rows // EIGHT)),
            "scales": (SCALES & {self.dtype}, (groups, rows)),
        }

    def codes(self, parts: Parts, start: int, stop: int) -> Tensor:
        return _columns(parts["qweight"].all(), start, stop).T

    def affine(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        scale = parts["scales"].all()[:, start:stop].T.contiguous()
        zero = _columns(parts["qzeros"].all(), start, stop).T.to(scale.dtype)
        columns = self.shape[1]
        return spread(scale, self.group, columns), spread(zero, self.group, columns)

    def put(self, codes: Tensor, start: int, into: Sinks) -> None:
        stop, whole = start + codes.shape[0], into["qweight"].tensor
        first, last = start // EIGHT * EIGHT, -(-stop // EIGHT) * EIGHT
        columns = _columns(whole, first, last)
        columns[:, start - first : stop - first] = codes.T
        laid = _ordered(columns, COLUMNS)
        whole[:, first // EIGHT : last // EIGHT] = bits.laid(laid, BITS)


def _columns(packed: Tensor, start: int, stop: int) -> Tensor:
    """Columns [start, stop) of what is packed, (inputs or groups, columns), uint8."""
    first = start // EIGHT
    held = packed[:, first : -(-stop // EIGHT)]
    found = _ordered(bits.taken(held, BITS, 0, held.shape[1] * EIGHT), NIBBLES)
    return found[:, start - first * EIGHT : stop - first * EIGHT]


def _ordered(columns: Tensor, order: tuple[int, ...]) -> Tensor:
    """Each eight columns in another order."""
    return columns.reshape(columns.shape[0], -1, EIGHT)[:, :, order].flatten(1)


class Awq(Packing):
    name = "awq"

    def weights(self, files: Files) -> Iterator[Weight]:
        form = str(files.said.get("version") or files.said.get("format") or "gemm").lower()
        width = files.count("bits", BITS)
        if form != "gemm" or width != BITS:
            raise Unsupported(
                f"the checkpoint is packed by AWQ in the layout `{shown(form)}` with {width} bits, which is not known",
                hint=f"save it again in the layout `gemm` with {BITS} bits, or use the unquantised base",
            )
        for path, there in files.modules.items():
            if "qweight" in there:
                yield _weight(files, path, there)

    def floated(
        self, said: Mapping[str, Any], floats: Collection[str], packed: Collection[str] = ()
    ) -> Mapping[str, Any]:
        return {**said, "modules_to_not_convert": skipped(said.get("modules_to_not_convert"), floats)}


def _weight(files: Files, path: str, there: Mapping[str, Entry]) -> Weight:
    main, scales, group = there["qweight"], there.get("scales"), files.count("group_size", 128)
    if len(main.shape) != 2 or scales is None:
        raise CheckpointError(
            f"`{path}.weight` is packed as awq, and its `qweight` and `scales` are not there as matrices",
            hint=phrases.FETCH,
        )
    columns, eights = main.shape
    group = group if group > 0 else max(columns, 1)
    if columns % group:
        raise CheckpointError(f"`{path}.qweight`", verb="has", got=f"{columns} inputs", want=f"groups of {group}")
    codec = Columns("awq", (eights * EIGHT, columns), scales.dtype, BITS, group)
    parts = {role: f"{path}.{role}" for role in codec.wanted() if role in there}
    return Weight(f"{path}.weight", parts, codec, files.dtype or scales.dtype)
