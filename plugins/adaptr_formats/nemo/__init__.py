"""LoRA of NeMo (`.nemo`: a tar of `model_config.yaml` and `model_weights.ckpt`, or the folder that it is of) and of
Megatron-Bridge, where it is a file of tensors by name.

Queries, keys and values are one projection, by groups of heads: of each the queries, then a key and a value; gate and
up are one, the one before the other. The parts of tensor-parallel ranks (`mp_rank_00`) are joined, and the layers of
pipeline ranks counted on. Which model's names these are goes by the configuration: those of models like Llama are
known, such as Mistral's, Qwen 2's and Gemma's. An alpha that it does not have is the rank, as in NeMo. Tensors of
Megatron alone have no configuration: then the alpha is asked for and the heads are the base's. No genuine file was at
hand: read as the code of NeMo's own converters says. Checkpoints of torch.distributed are refused: their index is a
pickle of classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.foreign import NOTHING, Format, Marks, Supplied
from adaptr_formats.nemo.named import SETTINGS, WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel
    from adaptr.foreign.seen import Seen

#: Where a tar says that it is one.
_TAR = slice(257, 262)


class Nemo(Format):
    name = "nemo"
    tool = "NeMo"
    called = "a LoRA of NeMo or Megatron"
    asks = frozenset({"alpha", "scale"})
    suffix = ".nemo"
    marks = Marks(
        suffixes=(".ckpt", ".pt", ".bin", ".safetensors"),
        keys=(r"(.*\.)?layers\.\d+\..*\.(adapter|\w+_adapter|adapter_\w+)\.linear_(in|out)\.weight",),
    )

    def locate(self, seen: Seen) -> Path | None:
        if seen.folder and SETTINGS in seen.files:  # LitGPT calls a file so too
            ranks = (WEIGHTS in seen.files, *seen.path.glob(f"*_rank_*/{WEIGHTS}"))
            return seen.path / SETTINGS if any(ranks) else super().locate(seen)
        if not seen.folder and seen.first[_TAR] == b"ustar":
            return seen.path if seen.path.suffix == self.suffix else None
        return super().locate(seen)

    def beside(self, file: Path) -> tuple[str, ...]:
        return tuple(name for name in super().beside(file) if name != WEIGHTS)

    def files(self, file: Path) -> tuple[Path, ...]:
        if file.name != SETTINGS:
            return (file,)
        return (file, *sorted(file.parent.glob(WEIGHTS)), *sorted(file.parent.glob(f"*/{WEIGHTS}")))

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr_formats.nemo.reading import read

        return read(self.weights(path), base, supplied)
