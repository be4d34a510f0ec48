"""Textual inversion: a learned word."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class TextualInversion(Format):
    name = "textual-inversion"
    tool = "textual inversion"
    called = "a textual-inversion embedding"
    marks = Marks(keys=(r"string_to_param|emb_params",))
