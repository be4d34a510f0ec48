"""What people and tools wrote about an adapter beside its tensors and configuration: the entries of the safetensors
metadata, and the model card. Kept as they are in `adapter.foreign["peft"]`, for the way back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adaptr.errors import InputError
from adaptr.files.linked import require_inside
from adaptr.foreign.saving import ABOUT
from adaptr.untrusted import whole

CARD = "README.md"
#: A model card that is kept, in bytes; PEFT's own template has 5,000.
MOST = 256 << 10
_FRONT = re.compile(r"\A---\r?\n(.*?)^---\s*$", re.DOTALL | re.MULTILINE)
_LICENSE = re.compile(r"^license:[ \t]*(?P<quote>[\"']?)([A-Za-z0-9][A-Za-z0-9.+-]*)(?P=quote)[ \t]*\r?$", re.MULTILINE)


def beside(folder: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The metadata that is not adaptr's own, and the card, where there are any."""
    kept = {key: value for key, value in metadata.items() if key != ABOUT and (key, value) != ("format", "pt")}
    found = {"metadata": kept, "card": card(folder)}
    return {key: value for key, value in found.items() if value}


def card(folder: Path) -> str:
    """The model card of a folder; "" where there is none, or none that can be kept. Raises `InputError` for a
    link that leads out of it.
    """
    path = folder / CARD
    if not path.is_file():
        return ""
    require_inside(folder, [path])
    try:
        return whole(path, MOST).decode()
    except (InputError, UnicodeDecodeError):
        return ""


def unkept(folder: Path) -> bool:
    """Whether a folder has a card that is too large, or no text."""
    return (folder / CARD).is_file() and not card(folder)


def license_of(told: Mapping[str, Any]) -> str:
    """The licence that the metadata or the head of the card names, "" if neither does."""
    said = told.get("metadata", {}).get("license")
    front = _FRONT.match(told.get("card", ""))
    named = _LICENSE.search(front[1]) if front else None
    return str(said or (named[2] if named else ""))


def metadata_of(adapter_foreign: Mapping[str, Any]) -> dict[str, str]:
    """The entries to write again."""
    said = adapter_foreign.get("peft", {}).get("metadata", {})
    return {str(key): str(value) for key, value in said.items()} if isinstance(said, Mapping) else {}


def card_of(adapter_foreign: Mapping[str, Any]) -> str:
    """The card to write again."""
    said = adapter_foreign.get("peft", {}).get("card", "")
    return said if isinstance(said, str) else ""
