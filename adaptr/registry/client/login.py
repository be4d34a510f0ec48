"""Logging in: the password is tried before it is kept, and goes nowhere that was not shown before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from adaptr.errors import AuthError, RegistryError
from adaptr.registry.client import address, credentials, pins
from adaptr.registry.client.address import Origin
from adaptr.registry.client.credentials import Credential
from adaptr.registry.client.http import exchange
from adaptr.registry.client.registry import Registry


@dataclass(frozen=True)
class Door:
    """Where a registry checks passwords: `realm` is another server, or None. `open`: it asks nobody who they are."""

    host: str
    registry: Registry
    realm: Origin | None
    open: bool

    @property
    def checked_at(self) -> str:
        return str(self.realm or self.registry.auth.base)


@dataclass(frozen=True)
class LoggedIn:
    """An account that was kept. `tested`: whether the registry said yes to it."""

    host: str
    user: str
    checked_at: str
    kept_in: str
    tested: bool

    def as_dict(self) -> Mapping[str, Any]:
        return {
            "host": self.host,
            "user": self.user,
            "checked_at": self.checked_at,
            "kept_in": self.kept_in,
            "tested": self.tested,
        }


def door(host: str) -> Door:
    """Ask a registry, as nobody, where it wants passwords to go. Raises `RegistryError` for what is no registry."""
    registry = Registry(host)
    with exchange("GET", f"{registry.base}/v2/") as answer:
        answer.require_lasting()
        registry.auth.meet(answer, frozenset(), {})
        if answer.status not in {200, 401}:
            raise RegistryError(
                f"`{registry.base}/v2/` answers {answer.status}: no OCI registry is there",
                hint="look at the name of the host",
            )
        return Door(host, registry, registry.auth.realm, answer.status == 200)


def login(door: Door, user: str, secret: str) -> LoggedIn:
    """Try an account at a door, keep it, and agree to the server that checked it. Raises `AuthError`."""
    auth = door.registry.auth
    auth.try_out(Credential(user, secret), door.realm)
    if not door.open and door.registry.ping() != 200:
        raise AuthError(
            f"`{door.host}` does not accept the account `{user}`",
            hint="nothing was kept: look at the name and the password, or make a new token there",
        )
    kept = credentials.keep(door.host, user, secret)
    if door.realm is not None:
        pins.pin(auth.base, door.realm)
    return LoggedIn(door.host, user, door.checked_at, kept, not door.open)


def logout(host: str) -> list[str]:
    """Forget an account; returns the places that had it. Raises `AuthError` where nobody had."""
    found = credentials.forget(host)
    pins.unpin(address.ALIASES.get(host, host))
    if not found:
        raise AuthError(f"nobody is logged in to `{host}` here", hint=f"log in with `adaptr login {host}`")
    return found
