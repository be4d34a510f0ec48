"""Hosts and what kind of place they are: this machine, this network, or anywhere."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from typing import NamedTuple
from urllib.parse import urlsplit

from adaptr.errors import RegistryError, shown

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
#: Names by which people call a registry, to the host that answers.
ALIASES = {"docker.io": "registry-1.docker.io", "index.docker.io": "registry-1.docker.io"}
_PORTS = {"http": 80, "https": 443}
_NUMERIC = re.compile(r"(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+)){0,3}\Z", re.IGNORECASE)


class Origin(NamedTuple):
    """What a secret may be sent to: same scheme, host and port, or it is somebody else."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if _PORTS.get(self.scheme) == self.port else f":{self.port}")


def origin(url: str) -> Origin:
    """The origin of a URL. Raises `RegistryError` for what is no plain HTTP URL, or has a password in it."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise RegistryError(f"`{shown(url)}` is no URL", want="`https://host/path`") from None
    if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
        raise RegistryError(f"`{shown(url.partition('?')[0])}` is no URL that adaptr asks", want="`https://host/path`")
    return Origin(parts.scheme, parts.hostname.lower(), port or _PORTS[parts.scheme])


def canonical(place: str) -> str:
    """The one form of `host` or `host:port`, so that what is one place to us has one name.

    Lower case, without a dot at the end and the port that goes without saying; `localhost` for every name and address
    of this machine; `docker.io` for all names of Docker's registry.
    """
    host, port = _divided(place.lower())
    host = host.rstrip(".")
    known = "docker.io" if host in {*ALIASES, *ALIASES.values()} else "localhost" if loopback(host) else host
    literal = _literal(known)
    named = known if literal is None else f"[{literal}]" if literal.version == 6 else str(literal)
    return named if port in {"", "443"} or (port == "80" and named == "localhost") else f"{named}:{port}"


def _divided(place: str) -> tuple[str, str]:
    """Host without brackets, and port without leading zeros, "" where there is none."""
    host, colon, port = place.rpartition(":")
    if not colon or not port.isdecimal() or (":" in host and not host.endswith("]")):
        return place.strip("[]"), ""
    return host.strip("[]"), str(int(port))


def private(origin: Origin) -> bool:
    """Whether nobody else can read what is said to an origin: it is encrypted, or stays on this machine."""
    if origin.scheme == "https" or not loopback(origin.host):
        return origin.scheme == "https"
    # not every resolver knows that names below `localhost` stay here
    return not origin.host.endswith(".localhost") or all(one.is_loopback for one in _addresses(origin.host))


def plain(host: str) -> bool:
    """Whether somebody said that a registry (`host` or `host:port`) has no TLS: `ADAPTR_PLAIN_HTTP`, a list."""
    return host in os.environ.get("ADAPTR_PLAIN_HTTP", "").replace(",", " ").split()


def loopback(host: str) -> bool:
    """Whether a host name is this machine whatever a name server says."""
    host = host.rstrip(".").lower()
    literal = _literal(host)
    if literal is not None:
        return literal.is_loopback or literal.is_unspecified
    return host == "localhost" or host.endswith(".localhost")


def local(host: str) -> bool:
    """Whether a host, looked up, is on this machine or in a private network."""
    found = _addresses(host)
    return bool(found) and any(one.is_private or one.is_loopback for one in found)


def literal_inside(host: str) -> bool:
    """Whether a host is given as an address of this machine or of a private network."""
    literal = _literal(host)
    return literal is not None and (literal.is_private or literal.is_loopback or literal.is_link_local)


def refuse_link_local(host: str) -> None:
    """Raises `RegistryError` for addresses where clouds keep the secrets of their machines (169.254/16, fe80::/10)."""
    if any(one.is_link_local for one in _addresses(host)):
        raise RegistryError(
            f"`{shown(host)}` is a link-local address, where no registry is: refused",
            hint="give the registry's own name or address",
        )


def _addresses(host: str) -> list[Address]:
    """The addresses behind a host; none where it can't be looked up, perhaps because a proxy does that."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [_unmapped(ipaddress.ip_address(str(one[4][0]).partition("%")[0])) for one in found]


def _literal(host: str) -> Address | None:
    plain = host.strip("[]").partition("%")[0]
    try:
        return _unmapped(ipaddress.ip_address(plain))
    except ValueError:
        return _numeric(plain)


def _numeric(host: str) -> Address | None:
    """What the system makes of shorter and other numbers, such as `127.1`, `2130706433` and `0x7f000001`."""
    if not _NUMERIC.match(host):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _unmapped(address: Address) -> Address:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
