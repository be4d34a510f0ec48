"""XLabs' LoRA of Flux: attention processors."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class Xlabs(Format):
    name = "xlabs"
    tool = "XLabs"
    called = "an XLabs LoRA"
    marks = Marks(keys=(r"double_blocks\.\d+\.processor\..*",))
