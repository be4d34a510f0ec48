"""What lies in a folder that is published and goes into no artifact, and why."""

from __future__ import annotations

from pathlib import Path

from adaptr.registry.pack import PICKLES, files


def left_out(folder: Path) -> dict[str, str]:
    """The names of what is no part of the artifact, and why; nothing for a single file."""
    if not folder.is_dir():
        return {}
    taken = {file.name for file in files(folder).values()}
    rest = [file for file in sorted(folder.iterdir()) if file.name not in taken and not file.name.startswith(".")]
    return {file.name: _reason(file) for file in rest}


def _reason(file: Path) -> str:
    if file.is_dir():
        return "a folder"
    if file.suffix in PICKLES:
        return "a pickle, which may run code"
    if file.suffix == ".safetensors":
        return "weights that are no part of it"
    return "neither weights nor what says how to use them"
