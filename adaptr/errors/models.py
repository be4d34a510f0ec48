"""Adapter and base don't belong together (exit code 4), or the method can't do this (5)."""

from __future__ import annotations

from adaptr.errors.base import AdaptrError


class WrongBase(AdaptrError):
    """Adapter and base don't belong together."""

    exit_code = 4


class TargetNotFound(WrongBase):
    """The base has no module or tensor of that name."""


class TargetAmbiguous(WrongBase):
    """A name of the adapter fits two places of the base."""


class TargetMismatch(WrongBase):
    """The base has the target, with another shape or kind."""


class ContentMismatch(WrongBase):
    """Same structure, other weights than the adapter was trained on."""


class TiedWeights(WrongBase):
    """Changing one of two tied weights changes both, and nobody said so."""


class NotPossible(AdaptrError):
    """The method can't do this."""

    exit_code = 5


class NotMergeable(NotPossible):
    """The method has no equivalent in the base's weights."""

    joint = ". Possible: "

    def __init__(self, method: str, reason: str, possible: str) -> None:
        super().__init__(f"`{method}` cannot be merged: {reason}", hint=possible)


class NoDelta(NotPossible):
    """What the adapter does is no difference of weights, or none that is known without the base."""


class NotMerged(NotPossible):
    """There is nothing to take out."""


class Unsupported(NotPossible):
    """The method does not work on this kind of target."""


class MissingContext(Unsupported):
    """A formula asks for what the forward it runs in doesn't know, or runs in none."""


class AlreadyAttached(NotPossible):
    """The same adapter, or one of the same name, is on the model already."""


class NothingChanged(NotPossible):
    """The operation would leave every element as it was."""


class Diverged(NotPossible):
    """A training whose loss is no number any more, or rises without end."""
