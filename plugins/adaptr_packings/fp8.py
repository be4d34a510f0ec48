"""FP8: e4m3 codes times a scale of the tensor, or of each tile of 128 x 128 as DeepSeek-V3 is published.
Micikevicius and others 2022, arXiv:2209.05433; DeepSeek-AI 2024, arXiv:2412.19437.

`weight_scale_inv` multiplies, whatever its name says. The size of a tile is the configuration's, never the grid's: 192
rows in tiles of 128 have two scales, and so would tiles of 96.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from adaptr.errors import CheckpointError, Unsupported, shown
from adaptr.format.header import Entry
from adaptr.packings import Files, Packing, Weight
from adaptr_packings._pieces.floats8 import Float8
from adaptr_packings._pieces.modules import skipped

SCALE = "weight_scale_inv"


class Fp8(Packing):
    name = "fp8"

    def weights(self, files: Files) -> Iterator[Weight]:
        tile = _tile(files.said)
        for path, there in files.modules.items():
            if SCALE in there and "weight" in there:
                yield _weight(files, path, there["weight"], there[SCALE], tile)

    def floated(
        self, said: Mapping[str, Any], floats: Collection[str], packed: Collection[str] = ()
    ) -> Mapping[str, Any]:
        return {**said, "modules_to_not_convert": skipped(said.get("modules_to_not_convert"), floats)}


def _tile(said: Mapping[str, Any]) -> tuple[int, int] | None:
    found = said.get("weight_block_size")
    if found is None:
        return None
    if not isinstance(found, list) or len(found) != 2 or not all(type(n) is int and n > 0 for n in found):
        raise CheckpointError(
            "`quantization_config.weight_block_size`", got=shown(repr(found)), want="two whole numbers, or null"
        )
    return found[0], found[1]


def _weight(files: Files, path: str, main: Entry, scale: Entry, tile: tuple[int, int] | None) -> Weight:
    name = f"{path}.weight"
    if main.dtype != "F8_E4M3" or len(main.shape) != 2:
        raise Unsupported(
            f"`{name}`, which has a scale beside it,",
            got=f"{main.dtype} {list(main.shape)}",
            want="a matrix of F8_E4M3",
        )
    dtype = files.dtype or "BF16"
    codec = Float8("fp8", main.shape, dtype, scale.dtype, tile, scale.shape if tile is None else ())
    return Weight(name, {"weight": name, "scale": f"{path}.{SCALE}"}, codec, dtype)
