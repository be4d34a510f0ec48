"""JSON that others wrote, and how far it is trusted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from adaptr.errors import AdaptrError, InputError, shown
from adaptr.untrusted.files import MAX_DOCUMENT, whole

#: Levels of a document. Anything deeper is no document of ours, and walks over it would exhaust the stack.
MAX_DEPTH = 64
#: Digits of a whole number: enough for 64 bits with a sign.
MAX_DIGITS = 20


class Repeated(ValueError):
    """A key that appears twice."""


class TooDeep(ValueError):
    """A document that nests too deep."""


def loads(text: str, parse_int: Callable[[str], Any] | None = None) -> Any:
    """JSON with each key once and finite numbers. Raises `ValueError`: `Repeated`, `TooDeep` or another."""
    try:
        return json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite, parse_int=parse_int
        )
    except RecursionError:
        raise TooDeep("it nests too deep") from None


def json_object(raw: bytes, what: str, error: type[AdaptrError] = InputError) -> dict[str, Any]:
    """The JSON object in `raw`, called `what` where it is none, which raises `error`.

    Each key once, at most `MAX_DEPTH` levels, whole numbers of at most `MAX_DIGITS` digits, and texts that UTF-8 can
    carry. A byte-order mark is passed over.
    """
    try:
        found = loads(raw.decode("utf-8-sig"), _integer)
        _require_plain(found, escapes=b"\\u" in raw)
    except UnicodeDecodeError as bad:
        raise error(f"{what} is not JSON that can be read: byte {bad.start} is not UTF-8") from None
    except Repeated as bad:
        raise error(f"{what}: {bad}") from None
    except ValueError as bad:
        raise error(f"{what} is not JSON that can be read: {shown(_reason(bad, raw), 200)}") from None
    if not isinstance(found, dict):
        raise error(f"{what} is not a JSON object")
    return found


def _reason(bad: ValueError, raw: bytes) -> str:
    """What json says; of one line alone the column, as whoever reads many lines knows which it is."""
    if isinstance(bad, json.JSONDecodeError) and b"\n" not in raw.strip():
        return f"{bad.msg} (column {bad.colno})"
    return str(bad)


def json_file(path: Path, error: type[AdaptrError] = InputError, limit: int = MAX_DOCUMENT) -> dict[str, Any]:
    """The JSON object in a file. Raises `error`, and as `opened`."""
    return json_object(whole(path, limit), f"`{path}`", error)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Repeated(f"the key `{shown(key)}` appears twice")
            seen.add(key)
    return found


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    found = float(digits)
    if not math.isfinite(found):
        raise ValueError(f"{shown(digits)} is larger than any number that is kept")
    return found


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"a whole number has {len(digits)} digits, the limit is {MAX_DIGITS}")
    return int(digits)


def _require_plain(document: object, escapes: bool) -> None:
    """Raises `TooDeep`, and `ValueError` for half of a surrogate pair, which JSON can write only as an escape."""
    level = [document]
    for _ in range(MAX_DEPTH):
        if escapes:
            _require_text(level)
        level = [value for box in level if isinstance(box, (dict, list)) for value in _inside(box)]
        if not level:
            return
    raise TooDeep(f"it nests deeper than {MAX_DEPTH} levels")


def _inside(box: Mapping[str, Any] | list[Any]) -> list[Any]:
    return box if isinstance(box, list) else [*box, *box.values()]


def _require_text(values: list[Any]) -> None:
    try:
        "".join(value for value in values if isinstance(value, str)).encode()
    except UnicodeEncodeError:
        raise ValueError("a text holds half of a surrogate pair") from None
