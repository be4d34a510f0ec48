"""Prediction heads of AdapterHub, saved alone."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class AdapterhubHead(Format):
    name = "adapterhub-head"
    tool = "AdapterHub"
    called = "an AdapterHub prediction head"
    marks = Marks(keys=(r"heads\.[^.]+\..*",))
