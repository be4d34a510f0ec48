"""LitGPT's LoRA: `lit_model.pth.lora` at its own names, with `hyperparameters.yaml` and `model_config.yaml` beside it.

Queries, keys and values are one projection: A (k r, in) and B (rows of all, r) of the k of them that are adapted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.foreign import NOTHING, Format, Marks, Supplied

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel


class Litgpt(Format):
    name = "litgpt"
    tool = "LitGPT"
    called = "a LitGPT LoRA"
    asks = frozenset({"alpha", "scale", "enable_lora"})
    marks = Marks(
        files=("lit_model.pth.lora",),
        keys=(r"transformer\.h\.\d+\.(attn\.(attn|qkv|proj)|mlp\.(fc(_[12])?|proj))\.lora_[AB]",),
    )

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr_formats.litgpt.reading import read

        return read(self.weights(path), base, supplied)
