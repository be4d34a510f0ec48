"""GPTQ: whole numbers of 2, 3, 4 or 8 bits, with a scale and a zero point for each group of inputs.  Frantar and others
2022, arXiv:2210.17323.

`qweight` is the weight turned, (in, out), packed along the inputs; `qzeros` is packed along the outputs; `g_idx` says
which group an input is of, in any order. Files of the format `gptq` store zero points less one, over the borders of
fields: one addition to the whole word undoes it, but with 3 bits, where it is each field's own. `gptq_v2` has them as
they are.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from adaptr.errors import CheckpointError, Unsupported, phrases, shown
from adaptr.format.header import Entry
from adaptr.packings import Files, Packing, Parts, Sinks, Weight
from adaptr_packings._pieces import bits as streams
from adaptr_packings._pieces.integers import Integers, spread

if TYPE_CHECKING:
    from torch import Tensor

FORMATS = ("gptq", "gptq_v2")
BITS = (2, 3, 4, 8)
WORD = streams.WHOLE
SCALES = frozenset({"F16", "BF16", "F32"})
#: Where a module is in its block.
_IN_BLOCK = re.compile(r"(?:.*\.)?\d+\.(?P<inside>.+)")


@dataclass(frozen=True)
class Groups(Integers):
    """`groups`: how many there are; `group`: inputs of one, where no `g_idx` says otherwise; `less_one`: whether zero
    points are stored less one.
    """

    groups: int
    group: int
    indexed: bool
    less_one: bool

    main: ClassVar[str] = "qweight"

    def wanted(self) -> Mapping[str, tuple[frozenset[str], tuple[int, ...]]]:
        rows, columns = self.shape
        found = {
            "qweight": (frozenset({"I32"}), (streams.words(columns, self.bits), rows)),
            "qzeros": (frozenset({"I32"}), (self.groups, streams.words(rows, self.bits))),
            "scales": (SCALES & {self.dtype}, (self.groups, rows)),
        }
        return {**found, **({"g_idx": (frozenset({"I32", "I64"}), (columns,))} if self.indexed else {})}

    def codes(self, parts: Parts, start: int, stop: int) -> Tensor:
        return streams.taken(parts["qweight"].all()[:, start:stop].T, self.bits, 0, self.shape[1])

    def affine(self, parts: Parts, start: int, stop: int) -> tuple[Tensor, Tensor]:
        at = self._group_of(parts)
        scale = parts["scales"].all()[:, start:stop].T.contiguous()
        zero = self._zeros(parts, start, stop).T.to(scale.dtype)
        if at is not None:
            return scale[:, at], zero[:, at]
        return spread(scale, self.group, self.shape[1]), spread(zero, self.group, self.shape[1])

    def _group_of(self, parts: Parts) -> Tensor | None:
        """The group of each input, None where they are in order. Raises `CheckpointError` for one that there is not."""
        import torch

        if not self.indexed:
            return None
        at = parts["g_idx"].all().long()
        if not bool(((at >= 0) & (at < self.groups)).all()):
            raise CheckpointError(
                "a `g_idx`",
                verb="names",
                got=f"{int(at.min())} to {int(at.max())}",
                want=f"one of {self.groups} groups",
            )
        in_order = torch.arange(self.shape[1]) // self.group
        return None if torch.equal(at, in_order) else at

    def _zeros(self, parts: Parts, start: int, stop: int) -> Tensor:
        """(groups, rows), uint8."""
        first = start // WORD * self.bits
        stored = parts["qzeros"].all()[:, first : streams.words(stop, self.bits)]
        one_word = WORD % self.bits == 0
        if self.less_one and one_word:
            stored = stored + sum(1 << at for at in range(0, WORD, self.bits))
        found = streams.taken(stored, self.bits, start % WORD, stop - start)
        return (found + 1) & self.most if self.less_one and not one_word else found

    def put(self, codes: Tensor, start: int, into: Sinks) -> None:
        into["qweight"].tensor[:, start : start + codes.shape[0]] = streams.laid(codes, self.bits).T


class Gptq(Packing):
    name = "gptq"

    def weights(self, files: Files) -> Iterator[Weight]:
        form = str(files.said.get("checkpoint_format") or files.said.get("format") or FORMATS[0]).lower()
        form = "marlin" if files.said.get("is_marlin_format") else form
        if form not in FORMATS:
            raise Unsupported(
                f"the checkpoint is packed by GPTQ in the format `{shown(form)}`, which is not known",
                hint=f"save it again in the format {' or '.join(f'`{one}`' for one in FORMATS)}",
            )
        for path, there in files.modules.items():
            if "qweight" in there:
                yield _weight(files, path, there, form)

    def floated(self, said: Mapping[str, Any], floats: Collection[str], packed: Collection[str]) -> Mapping[str, Any]:
        """What stays packed, by its place in a block where that is the same in all of them."""
        gone = {_inside(path) for path in floats}
        kept = sorted({_inside(path) if _inside(path) not in gone else path for path in packed})
        return {**said, "modules_in_block_to_quantize": [kept]}


def _inside(path: str) -> str:
    found = _IN_BLOCK.fullmatch(path)
    return found["inside"] if found else path


def _weight(files: Files, path: str, there: Mapping[str, Entry], form: str) -> Weight:
    name, main, scales = f"{path}.weight", there["qweight"], there.get("scales")
    index = there.get("g_idx")
    index = index if index is not None and index.nbytes else None
    if len(main.shape) != 2 or scales is None or len(scales.shape) != 2:
        raise CheckpointError(
            f"`{name}` is packed as gptq, and its `qweight` and `scales` are not there as matrices", hint=phrases.FETCH
        )
    if index is None and files.said.get("desc_act"):
        raise CheckpointError(
            f"`{name}` is packed in an order of its own (`desc_act`), and its `g_idx` is not there", hint=phrases.FETCH
        )
    bits = _bits(files, name, main, index)
    columns = main.shape[0] * WORD // bits
    group = files.count("group_size", 128)
    group = group if 0 < group < columns else max(columns, 1)
    groups = scales.shape[0] if index is not None else -(-columns // group)
    shape = (main.shape[1], columns)
    codec = Groups(f"gptq-int{bits}", shape, scales.dtype, bits, groups, group, index is not None, form == FORMATS[0])
    parts = {role: f"{path}.{role}" for role in ("qweight", "qzeros", "scales", "g_idx") if role in there}
    return Weight(name, parts, codec, files.dtype or scales.dtype)


def _bits(files: Files, name: str, main: Entry, index: Entry | None) -> int:
    """Those of the configuration; where weights have some of their own (`dynamic`), those of its shape."""
    bits = files.count("bits")
    if files.said.get("dynamic") and index is not None:
        bits = next((one for one in BITS if index.shape[0] * one == main.shape[0] * WORD), bits)
    if bits not in BITS:
        raise Unsupported(
            f"`{name}` is packed by GPTQ in {bits} bits, and how these lie is not certain",
            hint=f"known are {', '.join(map(str, BITS))}",
        )
    return bits
