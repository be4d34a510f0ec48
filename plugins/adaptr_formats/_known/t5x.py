"""T5X's prompts: an array alone."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class T5x(Format):
    name = "t5x"
    tool = "T5X"
    called = "a NumPy array, as T5X prompts are"
    marks = Marks(first=(b"\x93NUMPY",))
