"""The laws, on an error of one's own."""

import adaptr.testing


class TestPromptContinued(adaptr.testing.ErrorLaws):
    error = "PromptContinued"
