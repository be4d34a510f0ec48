"""Names of files inside artifacts: what is not plainly harmless on every system is rejected, never mended."""

from __future__ import annotations

import re

from adaptr.errors import UnsafeName, shown

MAX_LEVELS = 3
MAX_LENGTH = 255
_COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*\Z")
#: Names that Windows gives to devices, whatever follows the first dot.
_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{d}{n}" for d in ("com", "lpt") for n in range(10))})


def require(name: str) -> str:
    """The name itself, if it is relative, plain and at most three levels deep. Raises `UnsafeName`."""
    parts = name.split("/") if isinstance(name, str) else []
    harmless = 0 < len(parts) <= MAX_LEVELS and len(name) <= MAX_LENGTH and all(map(_plain, parts))
    if not harmless:
        raise UnsafeName(
            f"`{shown(name)}` can't be the name of a file in an artifact",
            want=f"up to {MAX_LEVELS} levels of letters, digits, `.`, `_` and `-`, none starting with a dot",
            hint="rename it",
        )
    return name


def _plain(part: str) -> bool:
    return bool(_COMPONENT.match(part)) and not part.endswith(".") and part.partition(".")[0].lower() not in _DEVICES
