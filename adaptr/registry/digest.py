"""The name of content: `sha256:` and 64 hexadecimal digits, checked where it enters."""

from __future__ import annotations

import hashlib
import re
from typing import Self

from adaptr.errors import BadDigest, shown

# \Z, not $: a newline at the end would pass
_FORM = re.compile(r"sha256:[0-9a-f]{64}\Z")


class Digest(str):
    """A digest that can be nothing else, so that paths and URLs may be made of it."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not isinstance(text, str) or not _FORM.match(text):
            raise BadDigest(f"`{shown(text)}` is no digest", want="`sha256:` and 64 hexadecimal digits")
        return super().__new__(cls, text)

    @classmethod
    def of(cls, data: bytes) -> Self:
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    @property
    def hex(self) -> str:
        return self[7:]

    @property
    def short(self) -> str:
        """For people: enough to tell a handful apart."""
        return self[7:19]
