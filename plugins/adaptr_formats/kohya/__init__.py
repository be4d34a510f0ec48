"""kohya's sd-scripts, musubi-tuner and LyCORIS: one file, `<prefix>_<path with _ for .>.<tensor>`, alphas as tensors.

An adapter of several networks is one: its paths begin with what pipelines call the network (`unet`, `transformer`,
`text_encoder`, `text_encoder_2`), and go on as the model that it was trained on calls its modules. Of a LoKr, LyCORIS
4.1.3 itself loads sizes that it would choose alone: where the first factor is the larger one it raises an error, as it
does with such files of its own; of an OFT, blocks that are no larger than they are many. It can't load any (IA)3, its
own included. A DyLoRA is read as the LoRA of all its rank, as LyCORIS and ComfyUI read it. A LoRA's
Tucker core stays what it is (`tucker`); beneath magnitudes it goes into the factor behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from adaptr.foreign import NOTHING, Format, Marks, Supplied, Written

if TYPE_CHECKING:
    from pathlib import Path

    from adaptr.adapter import Adapter
    from adaptr.foreign.format import BaseModel


class Kohya(Format):
    name = "kohya"
    tool = "kohya"
    called = "a kohya or LyCORIS adapter"
    folder = False
    asks = frozenset({"alpha", "scale"})
    marks = Marks(suffixes=(".safetensors",), keys=(r"(lora_(unet|te\d?|transformer|prior\w*)|lycoris)_\w+\..*",))

    def read(self, path: Path, base: BaseModel | None = None, supplied: Supplied = NOTHING) -> Adapter:
        from adaptr_formats.kohya.reading import read

        return read(self.weights(path), base, supplied)

    def based(self, adapter: Adapter, base: BaseModel) -> Adapter:
        from adaptr_formats.kohya.unbiased import unbiased

        return unbiased(adapter, base)

    def lost(self, adapter: Adapter) -> list[str]:
        from adaptr_formats.kohya.writing import lost

        return lost(adapter)

    def save(self, adapter: Adapter, out: Path, force: bool) -> Written:
        from adaptr_formats.kohya.writing import save

        return save(adapter, out, force)
