"""Where a server may send us on to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urljoin

from adaptr.errors import RegistryError, shown
from adaptr.registry.client import address

#: Headers that say who we are: for the one that was asked, nobody else.
SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})


def redirected(url: str, location: str) -> str:
    """Where a redirect leads. Raises `RegistryError` where it must not lead: out of TLS, or from outside to inside."""
    target = urljoin(url, location)
    here, there = address.origin(url), address.origin(target)
    if here.scheme == "https" and there.scheme != "https":
        raise RegistryError(
            f"`{here}` redirects to `{there}`, which is not encrypted: refused", hint="tell those who run it"
        )
    if there.host != here.host and address.local(there.host) and not address.local(here.host):
        raise RegistryError(
            f"`{here}` redirects to `{there}`, which is inside this network: refused",
            hint="ask that place itself, if you trust it",
        )
    return target


def carried(headers: Mapping[str, str], url: str, target: str) -> dict[str, str]:
    """The headers that go along from `url` to `target`: no secrets to another origin."""
    if address.origin(url) == address.origin(target):
        return dict(headers)
    return {name: value for name, value in headers.items() if name.lower() not in SECRET}


def uploading(base: str, url: str, location: str) -> tuple[str, bool]:
    """Where an upload goes, and whether with our account: only to the registry's own origin.

    Raises `RegistryError` for anywhere else, but for encrypted hosts in `ADAPTR_UPLOAD_HOSTS`, a list.
    """
    target = urljoin(url, location)
    there = address.origin(target)
    if there == address.origin(base):
        return target, True
    allowed = os.environ.get("ADAPTR_UPLOAD_HOSTS", "").replace(",", " ").split()
    if there.scheme == "https" and there.host in allowed:
        return target, False
    raise RegistryError(
        f"`{address.origin(base)}` wants the upload to go to `{shown(str(there))}`, another server: refused",
        hint=f"if you know that one, set `ADAPTR_UPLOAD_HOSTS={shown(there.host)}`",
    )
