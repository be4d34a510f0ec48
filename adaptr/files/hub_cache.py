"""The Hugging Face cache of this user: what other tools downloaded, and by which name."""

from __future__ import annotations

import os
import re
from pathlib import Path

#: An owner and a name, as the Hub has them.
_NAME = re.compile(r"([A-Za-z0-9][\w.-]*)/([A-Za-z0-9][\w.-]*)")


def folder() -> Path:
    """Where it is, by the variables that huggingface_hub goes by."""
    said = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if said:
        return Path(said).expanduser()
    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(home).expanduser() / "hub"


def repository(name: str) -> Path | None:
    """The folder of `org/name` in the cache, if a revision of it is there; None for what is no such name."""
    found = _NAME.fullmatch(name)
    place = folder() / f"models--{found[1]}--{found[2]}" if found else None
    return place if place is not None and (place / "snapshots").is_dir() else None
