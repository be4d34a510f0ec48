"""How an adapter is named in what is made of it: by its weights digest, its identity in every format, and where it was
a file by the digest of that too. Never by its place.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from adaptr.adapter import Adapter
from adaptr.foreign.detect import CONFIG
from adaptr.format import digest
from adaptr.sources.open import Opened
from adaptr.untrusted import whole


def named(adapter: Adapter, form: str = "", file: Path | None = None) -> dict[str, Any]:
    """The entry of a lineage's `parents`. `form`, `file`: the format and the file it was read from, if it was."""
    known = {
        "weights": digest.of_adapter(adapter),
        "format": form or "memory",
        "name": adapter.name,
        "digest": "" if file is None else digest.of_file(file),
        "config": "" if file is None or form == "adaptr" else _config(file),
    }
    return {key: value for key, value in known.items() if value}


def of_opened(found: Opened) -> dict[str, Any]:
    """The same, of an adapter that was just opened."""
    return named(found.adapter, found.format, found.file)


def _config(file: Path) -> str:
    config = file.parent / CONFIG
    return "sha256:" + hashlib.sha256(whole(config)).hexdigest() if config.is_file() else ""
