"""The call itself is wrong: exit code 2."""

from __future__ import annotations

from adaptr.errors.base import AdaptrError


class UsageError(AdaptrError):
    """The call itself is wrong."""

    exit_code = 2


class UnknownMethod(UsageError):
    """No built-in or installed plugin has this method name."""


class BadConfig(UsageError):
    """A configuration field is unknown, missing, of the wrong type or out of range."""


class NoRoom(UsageError):
    """A pool can't hold all adapters that a batch wants at once."""


class AdapterTooLarge(NoRoom):
    """An adapter needs more memory than a pool has in all."""


class OutputExists(UsageError):
    """The output exists and nothing may be overwritten without being asked."""


class BadReference(UsageError):
    """A reference is not of any form that names a place."""
