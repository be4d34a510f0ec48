"""What a GGUF file tells people: `general.*` names, and beside them what only adaptr knows."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptr.foreign import saving

if TYPE_CHECKING:
    from adaptr.adapter import Base
    from adaptr.format.gguf import GgufHeader

#: Where a file that adaptr wrote has what has no other place there; others lack it.
ABOUT = saving.ABOUT
#: An adapter's field to the file's.
FIELDS = {
    "name": "general.name", "release": "general.version", "summary": "general.description",
    "license": "general.license", "tags": "general.tags",
}  # fmt: skip
_BASE = "general.base_model.0."
_REPOSITORY = re.compile(r"https://huggingface\.co/(\w[\w.-]*/\w[\w.-]*)")


def of(header: GgufHeader) -> dict[str, Any]:
    """The fields of an adapter that a file says. Raises `ForeignError`."""
    found = saving.told({ABOUT: header.text(ABOUT) or "{}"})
    for field, theirs in FIELDS.items():
        value = header.metadata.get(theirs)
        texts = isinstance(value, tuple) and all(isinstance(one, str) for one in value)
        if ABOUT not in header.metadata and (isinstance(value, str) if field != "tags" else texts):
            found[field] = value
    return found


def base(header: GgufHeader, known: Base) -> Base:
    """`known` with the repository of the Hub that a file says of the base, and no path of whoever wrote it."""
    found = _REPOSITORY.fullmatch(header.text(f"{_BASE}repo_url"))
    return replace(known, id=found[1], revision=header.text(f"{_BASE}version")) if found else known


def kept(header: GgufHeader) -> dict[str, str]:
    """All values as texts, but for what adaptr put there."""
    shown = {name: ", ".join(map(str, v)) if isinstance(v, tuple) else str(v) for name, v in header.metadata.items()}
    return {name: text for name, text in shown.items() if name != ABOUT}
