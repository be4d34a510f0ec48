"""AdapterHub's adapters: bottlenecks and others, by the adapter's name."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Adapterhub(Format):
    name = "adapterhub"
    tool = "AdapterHub"
    called = "an AdapterHub adapter"
    marks = Marks(
        files=("pytorch_adapter.bin", "adapter.safetensors"),
        keys=(r".*\.(adapters|loras|refts|prefix_tunings|prompt_tunings)\.[^.]+\..*",),
    )
