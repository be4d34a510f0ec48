"""T5X's prompts: an array alone."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class T5x(Format):
    name = "t5x"
    tool = "T5X"
    called = "a NumPy array, as T5X prompts are"
    way = "adaptr can't read it yet; PEFT's PROMPT_TUNING has such rows as `prompt_embeddings`, and adaptr reads those"
    marks = Marks(first=(b"\x93NUMPY",))
