"""The laws, on a method at attentions."""

import adaptr.testing


class TestLlamaAdapter(adaptr.testing.Laws):
    method = "llama-adapter"
    config = {"tokens": 3}
