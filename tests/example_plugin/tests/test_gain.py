"""The laws, on a method of one's own."""

import adaptr.testing


class TestGain(adaptr.testing.Laws):
    method = "gain"
