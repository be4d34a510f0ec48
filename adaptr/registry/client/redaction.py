"""Secrets stay out of logs: the HTTP libraries would write whole URLs, with the signatures in their queries."""

from __future__ import annotations

import logging
import re

#: Loggers that write what goes over the wire. A filter works where a record is made, so each has its own.
LOGGERS = ("httpx", *(f"httpcore.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")))

_QUERY = re.compile(r"\?[^\s'\"<>)\]]+")
_USER = re.compile(r"//[^/@\s'\"]+@")
_ACCOUNT = re.compile(r"(?i)\b(basic|bearer)\s+[A-Za-z0-9._~+/=-]+")


def redacted(text: str) -> str:
    """A text without queries, passwords in URLs, and tokens."""
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
