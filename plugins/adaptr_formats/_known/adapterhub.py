"""AdapterHub's adapters: bottlenecks and others, by the adapter's name."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Adapterhub(Format):
    name = "adapterhub"
    tool = "AdapterHub"
    called = "an AdapterHub adapter"
    way = (
        "adaptr can't read it yet; where it has a weight, as LoRA has, `adapters` merges it (`model.merge_adapter`), "
        "and `adaptr extract BASE TUNED` makes an adapter of the change"
    )
    marks = Marks(
        files=("pytorch_adapter.bin", "adapter.safetensors"),
        keys=(r".*\.(adapters|loras|refts|prefix_tunings|prompt_tunings)\.[^.]+\..*",),
    )
