"""The laws, on a strategy of one's own."""

import adaptr.testing


class TestShrink(adaptr.testing.StrategyLaws):
    strategy = "shrink"
    whole = {"s": 1.0}
