"""What adapters are called that become parts of another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path


def names(sources: Sequence[str | Path]) -> dict[str, str | Path]:
    """A name for each adapter: what its file is called, as far as a part may be called so."""
    found: dict[str, str | Path] = {}
    for source in sources:
        stem = re.sub(r"[^a-z0-9_-]+", "-", Path(source).absolute().name.split(".")[0].lower()).strip("-_")
        name, number = stem[:60] or "adapter", 2
        while name in found:
            name, number = f"{stem[:56]}-{number}", number + 1
        found[name] = source
    return found
