"""What a receipt may say. It is input like any other: its names become names of files, its numbers sizes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from adaptr.adapter import weighting
from adaptr.bulk.change import FLOATS
from adaptr.checkpoint.side_files import CHANGEABLE
from adaptr.errors import UsageError
from adaptr.files.linked import is_name
from adaptr.format.header import DTYPES, MAX_DIMS, MAX_INT, Header

SHA = re.compile(r"sha256:[0-9a-f]{64}")
#: Bytes of a file of the base that comes back from a receipt: the largest tokenizers have a third of that.
LARGEST_FILE = 1 << 27
FILE_BLOB = "file:"


def wrong(document: Mapping[str, Any], blobs: Header) -> str:
    """The first thing that is not what a receipt holds there, or ""."""
    return next(_wrong(document, blobs), "")


def _wrong(document: Mapping[str, Any], blobs: Header) -> Iterator[str]:
    checks: dict[str, Callable[[Any], bool]] = {
        "exact": lambda it: isinstance(it, bool),
        "tied": lambda it: it in ("", "both", "untie"),
        "adapters": lambda it: isinstance(it, list) and all(map(_is_adapter, it)),
        "tensors": lambda it: _all_of(it, _is_note),
        "untouched": lambda it: _all_of(it, _is_digest),
        "dtype": lambda it: isinstance(it, str) and it in FLOATS,
        "packed": lambda it: _all_of(it, lambda one: isinstance(one, str)),
        "base": _is_base,
    }
    yield from (field for field, good in checks.items() if field in document and not good(document[field]))
    for key, entry in blobs.entries.items():
        name = key.removeprefix(FILE_BLOB)
        if name != key and (name not in CHANGEABLE or entry.nbytes > LARGEST_FILE):
            yield key
        if entry.dtype != "U8" or len(entry.shape) != 1:
            yield key


def _all_of(it: object, good: Callable[[Any], bool]) -> bool:
    return isinstance(it, dict) and all(map(good, it.values()))


def _is_digest(it: object) -> bool:
    return isinstance(it, str) and SHA.fullmatch(it) is not None


def _is_adapter(it: object) -> bool:
    return (
        isinstance(it, dict)
        and _is_digest(it.get("digest"))
        and _is_digest(it.get("weights"))
        and _is_weight(it.get("weight"))
        and all(isinstance(it.get(field), str) for field in ("method", "name"))
    )


def _is_weight(it: object) -> bool:
    """A number, or what `weighting.stored` makes of gradients and patterns."""
    if isinstance(it, dict):
        return all(isinstance(one, list) and len(one) == 2 for one in it.get("patterns") or [0]) and _restores(it)
    return _restores(it) if isinstance(it, list) else _is_number(it)


def _restores(it: object) -> bool:
    try:
        weighting.restored(it, "")
    except UsageError:
        return False
    return True


def _is_number(it: object) -> bool:
    return isinstance(it, int | float) and not isinstance(it, bool) and abs(it) < MAX_INT


def _is_base(it: object) -> bool:
    return (
        isinstance(it, dict)
        and all(_is_digest(it[field]) for field in ("config", "receipt") if field in it)
        and _are_files(it.get("headers"))
        and _are_files(it.get("files", {}))
    )


def _are_files(it: object) -> bool:
    return isinstance(it, dict) and _all_of(it, _is_digest) and all(map(_is_file, it))


def _is_file(name: str) -> bool:
    """Whether it is the name of a file, or of one in a folder beside it, and no way to another place."""
    parts = name.split("/")
    return len(parts) <= 2 and all(is_name(part) and part != "." for part in parts)


def _is_note(it: object) -> bool:
    """What is said of a changed tensor: nothing of the base, or its digest, dtype and shape there."""
    if not isinstance(it, dict) or any(it.get(mark, True) is not True for mark in ("added", "old", "codes")):
        return False
    if not isinstance(it.get("of", ""), str):
        return False
    if not _all_of(it.get("kept", {}), _is_shape):
        return False
    dtypes = DTYPES if "of" in it else FLOATS
    return "added" in it or (
        _is_digest(it.get("digest")) and it.get("dtype") in [*dtypes] and _is_shape(it.get("shape"))
    )


def _is_shape(it: object) -> bool:
    if not isinstance(it, list) or len(it) > MAX_DIMS:
        return False
    return all(type(n) is int and 0 <= n <= MAX_INT for n in it) and math.prod(it) <= MAX_INT
