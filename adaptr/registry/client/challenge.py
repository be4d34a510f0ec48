"""What a server asks for in `WWW-Authenticate` (RFC 9110, section 11.6.1): all of it, not only what comes first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PARAMETER = re.compile(rf'({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))')
#: A scheme, perhaps with one opaque value, which is not looked at.
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|$)))?")
_GAP = re.compile(r"[\s,]*")


@dataclass(frozen=True)
class Challenge:
    """One way to say who one is. `scheme` and the names of `parameters` are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse(headers: Iterable[str]) -> list[Challenge]:
    """All challenges in the headers of an answer. What can't be read ends the header that it is in."""
    return [challenge for header in headers for challenge in _one(header)]


def _one(header: str) -> list[Challenge]:
    found: list[tuple[str, dict[str, str]]] = []
    at = _end(_GAP.match(header))
    while at < len(header):
        parameter = _PARAMETER.match(header, at) if found else None
        scheme = None if parameter else _SCHEME.match(header, at)
        if parameter:
            quoted = parameter[2]
            value = parameter[3] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            found[-1][1].setdefault(parameter[1].lower(), value)
        elif scheme:
            found.append((scheme[1].lower(), {}))
        else:
            break
        at = _end(_GAP.match(header, _end(parameter or scheme)))
    return [Challenge(scheme, parameters) for scheme, parameters in found]


def _end(match: re.Match[str] | None) -> int:
    return match.end() if match else 0
