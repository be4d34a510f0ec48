"""Files for ComfyUI with the names of its own modules, as ai-toolkit and others write them: `diffusion_model.<path>`.

A module without an alpha has the scale 1, as ComfyUI reads it and ai-toolkit trains it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.foreign import NOTHING, Format, Marks, Supplied

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel

_SLOT = r"(lora_(A|B|down|up)\.([^.]+\.)?weight|hada_w[12]_[ab]|lokr_w[12](_[ab])?|diff|diff_b)"


class Comfyui(Format):
    name = "comfyui"
    tool = "ComfyUI"
    called = "a ComfyUI LoRA"
    folder = False
    asks = frozenset({"alpha", "scale"})
    marks = Marks(
        suffixes=(".safetensors",),
        keys=(
            rf"(model\.)?diffusion_model\..*\.{_SLOT}",
            r"((single_)?transformer_blocks|(double|single)_blocks)\..*\.lora_(down|up)\.weight",
        ),
    )

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr.foreign.pieces import dotted

        return dotted.read(self.weights(path), base, self.name, lambda metadata: dotted.by_rank, supplied)
