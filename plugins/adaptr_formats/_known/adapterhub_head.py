"""Prediction heads of AdapterHub, saved alone."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class AdapterhubHead(Format):
    name = "adapterhub-head"
    tool = "AdapterHub"
    called = "an AdapterHub prediction head"
    way = "it is the head of a task, which an adapter of AdapterHub has beside it and which works with that alone"
    marks = Marks(keys=(r"heads\.[^.]+\..*",))
