"""Secrets stay out of logs: the HTTP libraries would write whole URLs, with the signatures in their queries."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import re
from urllib.parse import quote

#: Loggers that write what goes over the wire. A filter works where a record is made, so each has its own.
LOGGERS = ("httpx", *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")))

_QUERY = re.compile(r"\?[^\s'\"<>)\]]+")
_USER = re.compile(r"//[^/@\s'\"]+@")
_ACCOUNT = re.compile(r"(?i)\b(basic|bearer)\s+[A-Za-z0-9._~+/=-]+")


#: What was said to servers to be believed, which some of them say back.
_told: set[str] = set()
#: Shorter secrets are words of other texts too.
SHORTEST = 4


def tell(authorization: str) -> None:
    """Remember what a header says, so that it is not shown wherever it comes back: the account as sent and as meant."""
    kind, _, value = authorization.partition(" ")
    keep(value)
    if kind.lower() == "basic":
        with contextlib.suppress(ValueError):
            keep(base64.b64decode(value).decode("utf-8", "replace").partition(":")[2])


def keep(secret: str) -> None:
    """Remember a secret."""
    if len(secret) >= SHORTEST:
        _told.update((secret, quote(secret, safe=""), json.dumps(secret)[1:-1]))


def without_secrets(text: str) -> str:
    """What a server said, without what was said to it."""
    for secret in sorted(_told, key=len, reverse=True):
        text = text.replace(secret, "...")
    return _ACCOUNT.sub(r"\1 ...", text)


def redacted(text: str) -> str:
    """A text without queries, passwords in URLs, and tokens."""
    text = without_secrets(text)
    return _ACCOUNT.sub(r"\1 ...", _USER.sub("//...@", _QUERY.sub("?...", text)))


class Redaction(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redacted(record.getMessage()), ()
        return True


def install() -> None:
    """Put the filter on every logger of the HTTP libraries, once."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(one, Redaction) for one in logger.filters):
            logger.addFilter(Redaction())
