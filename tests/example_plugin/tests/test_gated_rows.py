"""The laws, on a method at attentions."""

import adaptr.testing


class TestGatedRows(adaptr.testing.Laws):
    method = "gated-rows"
    config = {"tokens": 3}
