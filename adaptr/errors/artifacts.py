"""A registry or the network failed (exit code 6), or content is not what was promised (7)."""

from __future__ import annotations

from typing import Any

from adaptr.errors.base import AdaptrError


class RegistryError(AdaptrError):
    """A registry or the network failed."""

    exit_code = 6


class NotFound(RegistryError):
    """The registry, the Hub or the store has no such artifact, tag or repository."""


class AuthError(RegistryError):
    """The registry does not know the account, or the account may not do this."""


class TransferError(RegistryError):
    """The network failed, after all tries; what arrived is kept and the next try goes on from there."""

    def __init__(self, what: str, after: float = 0.0, **parts: Any) -> None:
        super().__init__(what, **parts)
        #: Seconds that the server asked to wait for.
        self.after = after


class IntegrityError(AdaptrError):
    """Content is not what was promised, or policy forbids it."""

    exit_code = 7


class DigestMismatch(IntegrityError):
    """Content is not what its digest promises."""


class BadDigest(IntegrityError):
    """Something that should be a digest is not one."""


class BadManifest(IntegrityError):
    """A manifest or index breaks the specification, or contradicts itself."""


class UnsafeName(IntegrityError):
    """A file name inside an artifact that could lead outside of it."""


class RefusedMediaType(IntegrityError):
    """Content of a type that adaptr does not open: archives, and what may run code."""


class SignatureError(IntegrityError):
    """A signature is missing, or is not of this content by this key."""


class PolicyError(IntegrityError):
    """The policy of this machine forbids it."""


class ReferenceMoved(IntegrityError):
    """A tag names something else than it did when it was pulled or locked."""
