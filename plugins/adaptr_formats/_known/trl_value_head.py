"""The value head that TRL trains beside a model."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class TrlValueHead(Format):
    name = "trl-value-head"
    tool = "TRL"
    called = "a TRL value head"
    marks = Marks(keys=(r"v_head\.(summary\.)?(weight|bias)",))
