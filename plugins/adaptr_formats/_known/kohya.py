"""kohya's sd-scripts and LyCORIS: module names with `_` for `.`."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Kohya(Format):
    name = "kohya"
    tool = "kohya"
    called = "a kohya or LyCORIS adapter"
    marks = Marks(keys=(r"(lora_(unet|te\d?|transformer|prior\w*)|lycoris)_\w+\..*",))
