"""What a base is called everywhere, and what only says where it lay on somebody's machine, which is not told."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

#: How the Hub's cache calls a repository's folder.
CACHED = re.compile(r"models--([^/]+?)--([^/]+)")
#: How a path begins that can be no name of a hub or registry.
_PLACE = re.compile(r"[/~.]|[A-Za-z]:[\\/]|file:|.*\\", re.DOTALL)
#: How the names begin under which GGUF says the base, and its path where it was converted.
_MADE_OF_PATHS = "general.base_model."
#: The field of PEFT's configuration that holds either.
FIELD = "base_model_name_or_path"


def is_place(name: str) -> bool:
    """Whether it is a path, on this machine or another."""
    return _PLACE.match(name) is not None


def name(name_or_path: str) -> str:
    """The name of a base; of a path the repository whose copy in the Hub's cache it is, or "".

    Not even the last part of a path: what a folder is called is this machine's own.
    """
    if not name_or_path or not (is_place(name_or_path) or os.path.isdir(name_or_path)):
        return name_or_path
    cached = CACHED.search(name_or_path.replace("\\", "/"))
    return f"{cached[1]}/{cached[2]}" if cached else ""


def told(foreign: Mapping[str, Any]) -> dict[str, Any]:
    """What an adapter kept of another tool's configuration, without where that tool had the base."""
    foreign = {name: _placeless(said) for name, said in foreign.items()}
    peft = foreign.get("peft")
    config = peft.get("config") if isinstance(peft, Mapping) else None
    if not isinstance(peft, Mapping) or not isinstance(config, Mapping):
        return foreign
    said = config.get(FIELD)
    if not isinstance(said, str) or not is_place(said):
        return foreign
    return {**foreign, "peft": {**peft, "config": {**config, FIELD: name(said) or None}}}


def _placeless(said: object) -> object:
    """What was kept of a header, without names that llama.cpp's converter makes of the base's path."""
    metadata = said.get("metadata") if isinstance(said, Mapping) else None
    if not isinstance(said, Mapping) or not isinstance(metadata, Mapping):
        return said
    kept = {name: text for name, text in metadata.items() if not name.startswith(_MADE_OF_PATHS)}
    return said if len(kept) == len(metadata) else {**said, "metadata": kept}
