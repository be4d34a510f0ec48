"""Canonical JSON (RFC 8785): one text for one content, so that equal manifests have equal digests."""

from __future__ import annotations

import json
from typing import Any

from adaptr import errors as e
from adaptr.errors import phrases

MAX_DEPTH = 32
#: Characters: what takes seconds to check, and six times what 10,000 targets need.
MAX_TEXT = 16_000_000

#: Where Python may have written a number otherwise than RFC 8785: 1.0, 1e-05.
ODD_NUMBERS = (".0,", ".0]", ".0}", "e-", "e+")


def dumps(document: Any) -> str:
    """RFC 8785. Raises `FieldInvalid` for what JSON can't carry exactly."""
    import rfc8785

    try:
        return rfc8785.dumps(document).decode()
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise e.FieldInvalid(
            f"the manifest can't be written as JSON: {error}",
            hint="put texts, whole and finite numbers, lists and mappings into it",
        ) from None
    except RecursionError:
        raise _too_deep() from None


def loads(text: str) -> dict[str, Any]:
    """A JSON object within the limits, not yet known to be canonical."""
    if len(text) > MAX_TEXT:
        raise e.HeaderTooLarge("the manifest", verb="has", got=f"{len(text)} characters", want=f"at most {MAX_TEXT}")
    try:
        document = json.loads(text, parse_int=_number, parse_constant=_no_constant)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise e.ManifestNotJson(f"the manifest is not JSON: {error}", hint=phrases.AGAIN) from None
    if not isinstance(document, dict):
        raise e.ManifestNotJson("the manifest is not a JSON object", hint=phrases.AGAIN)
    _bounded(document)
    return document


def is_canonical(text: str, document: object) -> bool:
    """Whether `text` is the canonical form of the `document` read from it."""
    plain = json.dumps(document, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    # the fast writer differs from RFC 8785 in some numbers, and in the order of keys beyond the basic plane
    odd = any(mark in text for mark in ODD_NUMBERS) or not (text.isascii() or max(text) <= "\uffff")
    return dumps(document) == text if odd or plain != text else True


def _too_deep() -> e.ManifestTooDeep:
    return e.ManifestTooDeep(f"the manifest nests deeper than {MAX_DEPTH} levels", hint=phrases.AGAIN)


def _number(digits: str) -> int | float:
    # RFC 8785 writes large floats as digits; as integers they would not be the same number to every reader
    return int(digits) if len(digits) < 16 or abs(int(digits)) < 2**53 else float(digits)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _bounded(document: dict[str, Any]) -> None:
    level: list[Any] = [document]
    depth = 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        boxes = (box.values() if isinstance(box, dict) else box for box in level)
        level = [value for box in boxes for value in box if isinstance(value, (dict, list))]
