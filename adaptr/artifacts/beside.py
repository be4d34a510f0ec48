"""The base of an adapter among the checkpoints that lie beside it, told by samples of its weights, without torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from adaptr.adapter import Adapter
from adaptr.checkpoint import open_checkpoint
from adaptr.checkpoint.names import Names
from adaptr.errors import AdaptrError
from adaptr.models.content import content_in_files

#: Checkpoints in a folder that are looked at.
MOST = 16


def base_beside(adapter: Adapter, folders: Sequence[Path]) -> Path | None:
    """Where it is; None where it is not, or the adapter says nothing of what its base has."""
    if not adapter.base.content:
        return None
    return next((path for folder in folders for path in _checkpoints(folder) if _is_base(path, adapter)), None)


def _checkpoints(folder: Path) -> Iterator[Path]:
    found = (path for path in sorted(folder.iterdir()) if (path / "config.json").is_file()) if folder.is_dir() else ()
    yield from [path for path in found if next(path.glob("*.safetensors"), None)][:MOST]


def _is_base(path: Path, adapter: Adapter) -> bool:
    """Of names that the checkpoint has: others are known to transformers, which takes seconds to ask."""
    try:
        checkpoint = open_checkpoint(path)
        if not all(f"{target}.weight" in checkpoint.tensors for target in adapter.targets):
            return False
        return content_in_files(Names(checkpoint), adapter.targets) == adapter.base.content
    except AdaptrError:
        return False
