"""The laws that plugins keep, of each sort, as pytest classes. A plugin's author writes:

    import adaptr.testing

    class TestMine(adaptr.testing.Laws):
        method = "mine"

    class TestMixed(adaptr.testing.StrategyLaws):
        strategy = "mixed"

    class TestTheirs(adaptr.testing.FormatLaws):
        format = "theirs"

    class TestCount(adaptr.testing.CommandLaws):
        command = "count"

        def works(self, folder):
            return ["."]

    class TestTooMany(adaptr.testing.ErrorLaws):
        error = "TooMany"

    class TestBytes(adaptr.testing.PackingLaws):
        packing = "bytes"

        def packed(self, W):
            scale = W.abs().amax(1) / 127
            return {"weight": (W / scale[:, None]).round().to(torch.int8), "weight_scale": scale}

    class TestShelf(adaptr.testing.RemoteLaws):
        remote = "shelf"

        def place(self, folder, tag):
            return f"shelf://{folder.name}/x:{tag}"

and gets a test a law: of methods and formats on a tiny Llama-type model, for which `model()` and `inputs()` may be
overridden, of strategies on small deltas that hypothesis draws, of packings on a small checkpoint, of commands in a
pipe and on a terminal.
"""

from __future__ import annotations

from adaptr.testing.closeness import assert_close, bits_equal
from adaptr.testing.commands import CommandLaws
from adaptr.testing.driver import Driver
from adaptr.testing.errors import ErrorLaws
from adaptr.testing.formats import FormatLaws
from adaptr.testing.merging import merged, round_trip
from adaptr.testing.methods import Laws
from adaptr.testing.packings import PackingLaws
from adaptr.testing.remotes import RemoteLaws
from adaptr.testing.samples import count, logits, shaken, tiny_llama, trained_keys
from adaptr.testing.strategies import StrategyLaws

__all__ = [
    "CommandLaws",
    "Driver",
    "ErrorLaws",
    "FormatLaws",
    "Laws",
    "PackingLaws",
    "RemoteLaws",
    "StrategyLaws",
    "assert_close",
    "bits_equal",
    "count",
    "logits",
    "merged",
    "round_trip",
    "shaken",
    "tiny_llama",
    "trained_keys",
]
