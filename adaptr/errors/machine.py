"""This machine can't do it: exit code 8. Or was asked to stop: 130, as shells say it."""

from __future__ import annotations

from adaptr.errors.base import AdaptrError


class MachineError(AdaptrError):
    """This machine can't do it: permissions, locks, space."""

    exit_code = 8


class DiskFull(MachineError):
    """No space left for the output; nothing was left behind."""


class StoreLocked(MachineError):
    """Another process holds the store for too long."""


class StoreUnsafe(MachineError):
    """The store belongs to somebody else, or others may write to it."""


class MissingExtra(MachineError):
    """An optional package is needed for this."""


class Interrupted(AdaptrError):
    """It was asked to stop, and did so in order: what was done is kept, and can be gone on with."""

    exit_code = 130
