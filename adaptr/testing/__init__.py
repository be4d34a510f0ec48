"""The laws that every adapter method and every composition strategy keeps, as pytest classes. A plugin's author writes:

    import adaptr.testing

    class TestMine(adaptr.testing.Laws):
        method = "mine"

    class TestMixed(adaptr.testing.StrategyLaws):
        strategy = "mixed"

and gets a test a law: of methods on a tiny Llama-type model, for which `model()` and `inputs()` may be overridden, of
strategies on small deltas that hypothesis draws.
"""

from __future__ import annotations

from adaptr.strategies.laws import StrategyLaws
from adaptr.testing.closeness import assert_close, bits_equal
from adaptr.testing.driver import Driver
from adaptr.testing.merging import merged, round_trip
from adaptr.testing.methods import Laws
from adaptr.testing.samples import count, logits, shaken, tiny_llama, trained_keys

__all__ = [
    "Driver",
    "Laws",
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
