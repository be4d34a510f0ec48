"""The value head that TRL trains beside a model."""

from __future__ import annotations

from adaptr.foreign import Format, Marks


class TrlValueHead(Format):
    name = "trl-value-head"
    tool = "TRL"
    called = "a TRL value head"
    way = (
        "it scores texts while a model is trained by reinforcement, and is no adapter: that of the same "
        "training lies in the folder with `adapter_config.json`"
    )
    marks = Marks(keys=(r"v_head\.(summary\.)?(weight|bias)",))
