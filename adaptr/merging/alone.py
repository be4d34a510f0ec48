"""A merge proven by what lies in it: its receipt gives the base back, and the adapters lie beside that."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adaptr.adapter import Adapter, weighting
from adaptr.adapter.weighting import Weight
from adaptr.checkpoint.open import open_checkpoint
from adaptr.errors import MachineError
from adaptr.errors.text import size
from adaptr.files.meter import Progress
from adaptr.merging import receipt, unmerge
from adaptr.sources.resolve import Place, resolve

#: Of the base's size, what must be free where it is put meanwhile.
ROOM = 1.05


def adapters(merged: Path) -> list[tuple[Adapter, Weight]]:
    """The adapters beside the receipt of `merged`, at their weights. Raises `NotMerged` where one is not there."""
    paper = receipt.read(merged)
    weights = [weighting.restored(entry["weight"], entry["name"]) for entry in paper.adapters]
    return [(unmerge.adapter_of(paper, number), weight) for number, weight in enumerate(weights)]


@contextmanager
def base(merged: Place, progress: Progress | None) -> Iterator[Path]:
    """The base of `merged` by its receipt, each tensor by its digest, for as long as it is looked at.

    Raises `NotMerged` without an exact receipt, `DigestMismatch` where it does not give back the base, `MachineError`
    where there is no room for it.
    """
    path = resolve(merged).path
    with tempfile.TemporaryDirectory(prefix="adaptr-") as folder:
        need, free = open_checkpoint(path).nbytes, shutil.disk_usage(folder).free
        if need * ROOM > free:
            raise MachineError(
                f"the base of `{path}` is put into `{folder}` while it is compared, which has {size(free)}",
                want=size(need),
                hint="set TMPDIR to a place with more, or give the base",
            )
        out = Path(folder) / f"base{path.suffix if path.is_file() else ''}"
        unmerge.unmerge(path, out, progress=progress)
        yield out
