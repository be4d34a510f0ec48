"""Adapters from and to disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from adaptr.adapter.expression import Expression
from adaptr.files import require_file
from adaptr.format import write
from adaptr.sources.given import Given, one, opened
from adaptr.sources.open import open_adapter, reads
from adaptr.sources.resolve import Place, Source, grounded

if TYPE_CHECKING:
    from torch import nn

    from adaptr.adapter import Adapter


def load(source: Given, base: nn.Module | Place | None = None) -> Adapter:
    """The adapter at `source`: an adaptr file, a folder that holds one, or a file or folder of another tool.

    `base`, a folder with a `config.json` or a live model, says what a foreign file leaves open: which modules a prefix
    belongs to, how expert stacks and fused layers are stored. Tensors are read when used. Weights that lie beside it
    are not read: a `UserWarning` names them. An `Adapter` is itself, an expression its `linear` composition.
    Raises `InputError` where nothing is, `UnknownFormat`, `UnsafePickle` and their kin for what is no adapter, and a
    `FormatError` for a damaged file.
    """
    return open_adapter(one(source), grounded(base)).adapter


def save(adapter: Given, path: str | os.PathLike[str], force: bool = False) -> None:
    """Write `adapter` to `path`, an adaptr file; of an expression such as `0.7 * a + 0.3 * b`, its `linear`
    composition. Raises `OutputExists` unless `force`, and for the file that the tensors are still read from, and
    `UsageError` for the name of a folder or a pickle.
    """
    what = one(adapter)
    parts = [part for part, _ in what.terms] if isinstance(what, Expression) else [what]
    lazy = (part for part in parts if isinstance(part, Source) or not isinstance(part.tensors, dict))
    require_file(Path(path), force, reads(*lazy))
    write(opened(what), path, force)
