"""Versions as servers number them: `0.28`, `v0.28.1`, `2.3.0.post1`, of which the numbers in front count."""

from __future__ import annotations

import re
from typing import TypeAlias

from adaptr.errors import UsageError, shown

Version: TypeAlias = tuple[int, ...]


def parsed(text: str) -> Version:
    """The numbers, without zeros at the end. Raises `UsageError` where there are none."""
    found = re.match(r"v?(\d{1,9}(?:\.\d{1,9})*)", text)
    if found is None:
        raise UsageError(f"`{shown(text)}` is no version", want="numbers, such as `0.28`", hint="or leave it out")
    numbers = [int(part) for part in found[1].split(".")]
    while len(numbers) > 1 and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def beyond(version: Version, newest: Version) -> bool:
    """Whether a version is newer than `newest` and all that begin as it does: 0.28.1 is not newer than 0.28."""
    return version[: len(newest)] > newest
