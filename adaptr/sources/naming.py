"""How an adapter is named in what is made of it: by its weights digest, its identity in every format, and where it was
a file by the digest of that too. Never by its place.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from adaptr import foreign
from adaptr.foreign.seen import CONFIG
from adaptr.format import digest
from adaptr.sources.open import Opened
from adaptr.untrusted import whole


def of_opened(found: Opened) -> dict[str, Any]:
    """The entry of a lineage's `parents`, of an adapter that was just opened."""
    known = {
        "weights": digest.of_adapter(found.adapter),
        "format": found.format,
        "name": found.adapter.name,
        "digest": found.digest,
        "config": "" if found.file is None or found.format == "adaptr" else _config(found.file),
        "supplied": {**found.supplied.said, **_initial(found)},
    }
    return {key: value for key, value in known.items() if value}


def _initial(found: Opened) -> dict[str, Any]:
    """What was given as the adapter before training, by its digest."""
    begun = found.supplied.initial
    return {} if begun is None else {"initial": digest.of_file(foreign.get(found.format).weights(Path(begun)))}


def _config(file: Path) -> str:
    config = file.parent / CONFIG
    return "sha256:" + hashlib.sha256(whole(config)).hexdigest() if config.is_file() else ""
