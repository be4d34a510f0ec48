"""The page of an error of `last-token`'s."""

from adaptr.errors import Unsupported


class PromptContinued(Unsupported):
    """A prompt goes on that was begun in another call over the same cache.

    What was its last token then is not any more, and was changed. Give the prompt in one call.
    """
