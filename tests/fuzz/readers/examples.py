"""What an example is, and whether its bytes are well formed."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

from adaptr import untrusted
from adaptr.errors import AdaptrError
from adaptr.format import header as headers

#: Whether it is well formed, and what reads it.
Example = tuple[bool, Callable[[], Any]]
Reader = Callable[[Random], Example]

ZERO = "sha256:" + "0" * 64


def is_json(raw: bytes) -> bool:
    try:
        untrusted.json_object(raw, "it")
    except AdaptrError:
        return False
    return True


def is_yaml(raw: bytes) -> bool:
    import yaml

    from adaptr.untrusted.plain_yaml import Plain

    try:
        Plain(raw.decode()).get_single_data()
    except (yaml.YAMLError, UnicodeDecodeError):
        return False
    return True


def is_archive(raw: bytes) -> bool:
    """Whether it is a zip with its directory."""
    try:
        return bool(zipfile.ZipFile(io.BytesIO(raw)).namelist())
    except Exception:
        return False


def is_header(raw: bytes) -> bool:
    try:
        headers.read(io.BytesIO(raw), len(raw))
    except AdaptrError:
        return False
    return True
