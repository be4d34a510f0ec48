"""Textual inversion: a learned word."""

from __future__ import annotations

from adaptr.foreign import Format, Marks, words


class TextualInversion(Format):
    name = "textual-inversion"
    tool = "textual inversion"
    called = "a textual-inversion embedding"
    way = "an adapter was wanted; diffusers loads a learned word with `load_textual_inversion`, others from a folder"
    marks = Marks(keys=(words.ALONE,))
